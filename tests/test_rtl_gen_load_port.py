"""The load port: words of any width gathered from beats, other targets' beats ignored."""

import pytest

from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import Target, target_id
from rtl_gen.load_port import LoadPort
from sim.pysim import idle, simulate


def hardware(bus_bytes):
    gather = {"cache_lines": 4}
    return HardwareConfig.model_validate(
        {
            "groups": [{"stages": [0]}],
            "gather": [gather],
            "topk_depth": [4],
            "memory": {"bus_bytes": bus_bytes},
        }
    )


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("bus_bytes, width", [(8, 5), (8, 64), (8, 200), (16, 256), (32, 257)])
def test_gathers_words(rng, bus_bytes, width, stall):
    target = target_id(Target.STATIC, 1)
    other = target_id(Target.STATIC, 2)
    dut = LoadPort(hardware=hardware(bus_bytes), target=target, width=width, depth=21)
    beat = 8 * bus_bytes
    expected, written, sent = {}, [], False

    async def send(ctx, **values):
        await idle(ctx, rng, stall)
        ctx.set(dut.bus, {"valid": 1, "first": 0, "address": 0, "data": 0, **values})
        await ctx.tick()
        ctx.set(dut.bus.valid, 0)

    async def loader(ctx):
        nonlocal sent
        for segment in range(6):
            mine = segment != 2
            # The last segment runs over the end of the memory, as a damaged image would.
            start = 19 if segment == 5 else 3 * segment
            await send(ctx, target=target if mine else other, first=1, address=start)
            for i in range(3):
                word = int.from_bytes(rng.bytes(-(-width // 8)), "little") & ((1 << width) - 1)
                padding = int.from_bytes(rng.bytes(bus_bytes), "little")
                word_beats = word | padding << width
                if mine and start + i < dut.depth:
                    expected[start + i] = word
                for b in range(dut.beats):
                    data = word_beats >> b * beat & ((1 << beat) - 1)
                    await send(ctx, target=target if mine else other, data=data)
        await ctx.tick().repeat(3)
        sent = True

    async def memory(ctx):
        while not sent:
            await ctx.tick()
            if ctx.get(dut.en):
                written.append((ctx.get(dut.addr), ctx.get(dut.data)))

    simulate(dut, loader, memory)
    assert len(written) == len(expected)
    assert dict(written) == expected


@pytest.mark.parametrize("arguments, text", [({"width": 0}, "Width"), ({"depth": 0}, "Depth")])
def test_bad_parameters(arguments, text):
    with pytest.raises(TypeError, match=f"{text} must be a positive integer, not 0"):
        LoadPort(**{"hardware": hardware(8), "target": 0, "width": 8, "depth": 4, **arguments})
