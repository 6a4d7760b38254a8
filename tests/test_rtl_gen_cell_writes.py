"""Writes to a group's activation memories: each byte of a part's word, in every shape."""

import numpy as np
import pytest

from rpaccel.hardware import HardwareConfig
from rtl_gen.cell_writes import CellWrites
from sim.pysim import simulate


def group_geometry(fusions, tile, gather_bytes):
    return HardwareConfig.model_validate(
        {
            "tile_rows": tile[0],
            "tile_cols": tile[1],
            "groups": [{"rows": 2, "cols": 2, "shapes": fusions, "stages": [0, 1]}],
            "gather": [{"cache_lines": 4}, {"cache_lines": 4}],
            "gather_bytes": gather_bytes,
            "topk_depth": [4, 4],
        }
    ).geometry(0)


class Memories:
    """All memories as bytes, written a part's word at a time (docs/architecture.md)."""

    def __init__(self, geometry, memories):
        self.geometry = geometry
        self.bytes = {at: {} for at in memories}

    def write(self, shape, part, buffer, address, first, values, mask):
        """Write bytes of a part's word, from byte ``first`` on."""
        parts_across = 2 // shape.cols
        row = part // parts_across * shape.rows
        col = part % parts_across * shape.cols
        tile_rows = self.geometry.hardware.tile_rows
        for byte, (value, given) in enumerate(zip(values, mask, strict=True), first):
            if given:
                slice_, lane = divmod(byte, shape.k_width)
                below, lane = divmod(lane, tile_rows)
                place = buffer, address, slice_ * tile_rows + lane
                self.bytes[row + below, col][place] = value


def packed(values, bits=8):
    return sum(int(value) << bits * place for place, value in enumerate(values))


def drawn(rng, count):
    return rng.integers(0, 256, count).tolist(), rng.integers(0, 2, count).tolist()


@pytest.mark.parametrize(
    "fusions, tile, gather_bytes",
    [
        ([[1, 1], [2, 1], [1, 2], [2, 2]], (3, 2), 8),
        ([[2, 2], [1, 2]], (2, 4), 1),
        ([[2, 1]], (2, 5), 1),
    ],
)
def test_every_byte_is_where_its_sub_array_reads_it(rng, fusions, tile, gather_bytes):
    geometry = group_geometry(fusions, tile, gather_bytes)
    dut = CellWrites(geometry)
    expected, seen = Memories(geometry, dut.memories), {at: {} for at in dut.memories}
    over = False

    def take(ctx, at, port, first_buffer):
        enabled, mask = ctx.get(port.en), ctx.get(port.mask)
        for buffer in range(len(port.en)):
            for byte in range(len(port.mask)):
                if enabled >> buffer & mask >> byte & 1:
                    place = first_buffer + buffer, ctx.get(port.address), byte
                    seen[at][place] = ctx.get(port.data) >> 8 * byte & 255

    async def watch(ctx):
        while not over:
            await ctx.tick()
            for at in dut.memories:
                for stage, port in enumerate(getattr(dut, dut.name("fill", at))):
                    take(ctx, at, port, 2 * stage)
                take(ctx, at, getattr(dut, dut.name("write", at)), 0)

    async def fill(ctx, stage, buffer):
        """What a gather unit writes in the same cycle, to another buffer (TokenInput.reserved)."""
        shape = geometry.shapes[rng.integers(len(geometry.shapes))]
        width = geometry.gather_bytes
        part, address = int(rng.integers(shape.parts)), int(rng.integers(8))
        place = int(rng.integers(shape.word_bytes // width))
        values, mask = drawn(rng, width)
        ctx.set(
            dut.fill[stage],
            {
                "en": 1,
                "form": shape.index,
                "part": part,
                "buffer": buffer,
                "address": address,
                "place": place,
                "data": packed(values),
                "mask": packed(mask, bits=1),
            },
        )
        expected.write(shape, part, 2 * stage + buffer, address, place * width, values, mask)

    async def drive(ctx):
        """Results of all parts, in the cycle after their write is announced."""
        nonlocal over
        for _ in range(120):
            shape = geometry.shapes[rng.integers(len(geometry.shapes))]
            buffer, address = int(rng.integers(4)), int(rng.integers(8))
            chunk = int(rng.integers(shape.chunks))
            _, mask = drawn(rng, shape.n_width)
            ctx.set(
                dut.write,
                {
                    "form": shape.index,
                    "en": 1 << buffer,
                    "address": address,
                    "chunk": chunk,
                    "mask": packed(mask, bits=1),
                },
            )
            await ctx.tick()
            ctx.set(dut.write.en, 0)
            made = {at: drawn(rng, tile[1])[0] for at in dut.places}
            for at, values in made.items():
                ctx.set(getattr(dut, dut.name("made", at)), packed(values))
            for part in range(shape.parts):
                row, col = divmod(part, 2 // shape.cols)
                south, col = (row + 1) * shape.rows - 1, col * shape.cols
                values = [v for c in range(shape.cols) for v in made[south, col + c]]
                first = chunk * shape.n_width
                expected.write(shape, part, buffer, address, first, values, mask)
            for stage in np.flatnonzero(rng.integers(0, 2, 2)):
                await fill(ctx, int(stage), 1 - buffer % 2)
            await ctx.tick()
            for stage in range(2):
                ctx.set(dut.fill[stage].en, 0)
        await ctx.tick()
        over = True

    simulate(dut, drive, watch)
    assert all(seen.values())
    assert seen == expected.bytes
