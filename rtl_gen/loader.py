"""The image loader: fills all on-chip memories from an image in device memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    IMAGE_HEADER,
    IMAGE_MAGIC,
    IMAGE_SEGMENT,
    LANE,
    PAIR,
    PARAM,
    PASS,
    STAGE,
    STEP,
    Target,
    image_block_bytes,
    pairs_target,
    target_id,
)
from rpaccel.registers import DeviceErrorBit
from rtl_gen.line_stream import LINES_BITS, LineStream
from rtl_gen.load_port import LoadPort
from rtl_gen.signatures import (
    LINE_BITS,
    load_bus_layout,
    memory_client_signature,
    struct,
)

__all__ = ["Loader", "target_bytes"]

BLOCK_BITS = 8 * abi.BLOCK_BYTES


def target_bytes(hardware: HardwareConfig) -> dict[int, int]:
    """Bytes of a word of each on-chip memory of a machine, by target."""
    sizes = {
        target_id(Target.STAGES, 0): STAGE.bytes,
        target_id(Target.STATIC, 0): hardware.memory.bus_bytes,
    }
    for stage in range(hardware.stages):
        sizes[target_id(Target.FIELDS, stage)] = FIELD.bytes
        lanes = hardware.gather[stage].lanes + 1
        sizes[target_id(Target.STEPS, stage)] = STEP.bytes + lanes * LANE.bytes
        shape = hardware.dot_shape(stage)
        if shape is not None:
            pairs = shape.ring * shape.turns
            sizes[pairs_target(stage)] = pairs * PAIR.bytes
    for group in range(len(hardware.groups)):
        tiles = hardware.geometry(group).weight_tiles
        sizes[target_id(Target.PROGRAM, group)] = PASS.bytes
        sizes[target_id(Target.WEIGHTS, group)] = tiles * hardware.tile_cols
        sizes[target_id(Target.ENTRIES, group)] = ENTRY.bytes
        sizes[target_id(Target.PARAMS, group)] = hardware.tile_cols * PARAM.bytes
    return sizes


class SegmentWriter(wiring.Component):
    """Drive the load bus with a segment's data, from beats of memory lines.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    segment : In(struct(image_layout.IMAGE_SEGMENT))
    begin : In(1)
        A pulse: ``segment`` is a new one.
    known : Out(1)
        ``segment`` names a memory of this machine.
    lines : Out(LINES_BITS)
        Memory lines that its data take.
    beat, data : In
        Next beat of the segment. Beats behind its end are dropped.
    left : Out(1)
        Words of the segment are missing.
    load : Out(load_bus_layout(hardware))
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        super().__init__(
            {
                "segment": In(struct(IMAGE_SEGMENT)),
                "begin": In(1),
                "known": Out(1),
                "lines": Out(LINES_BITS),
                "beat": In(1),
                "data": In(8 * hardware.memory.bus_bytes),
                "left": Out(1),
                "load": Out(load_bus_layout(hardware)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.hardware.memory.bus_bytes
        beats = {target: -(-size // bus) for target, size in target_bytes(self.hardware).items()}
        span = Signal(range(max(beats.values())))  # beats of a word, less one
        total = Signal(LINES_BITS)  # beats
        named = self.segment.target
        if len(self.load.target) > len(named):
            named = Cat(named, self.segment.upper)
        with m.Switch(named):
            for target, count in beats.items():
                with m.Case(target):
                    m.d.comb += [
                        self.known.eq(1),
                        span.eq(count - 1),
                        total.eq(self.segment.words * count),
                    ]
        in_line = self.hardware.memory.beats
        m.d.comb += self.lines.eq((total + in_line - 1) >> ceil_log2(in_line))
        words = Signal(32)
        last, count = Signal.like(span), Signal.like(span)
        m.d.comb += self.left.eq(words != 0)
        m.d.sync += self.load.valid.eq(0)
        with m.If(self.begin):
            m.d.sync += [
                words.eq(self.segment.words),
                last.eq(span),
                count.eq(0),
                self.load.valid.eq(1),
                self.load.first.eq(1),
                self.load.target.eq(named),
                self.load.address.eq(self.segment.address),
            ]
        with m.Elif(self.beat & self.left):
            m.d.sync += [
                self.load.valid.eq(1),
                self.load.first.eq(0),
                self.load.data.eq(self.data),
                count.eq(count + 1),
            ]
            with m.If(count == last):
                m.d.sync += [count.eq(0), words.eq(words - 1)]
        return m


class Loader(wiring.Component):
    """Walk an image and hand its segments to the on-chip memories over the load bus.

    The header is checked (magic, version, digest: the first that is wrong is reported), then each
    segment is loaded in turn. It stops at the first error, and the machine is left without an
    image. Up to ``memory.loader_lines`` lines are in flight; segments are read one after the other.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    start : In(1)
        A pulse while not ``loading``: load the image at ``image_address``.
    image_address : In(64)
        Byte address; must be line aligned and inside the device memory.
    flush : Out(1)
        A pulse at the start: cached lines are of another image.
    busy : In(1)
        Some unit cannot take load beats yet.
    memory : Out(memory_client_signature(hardware))
    load : Out(load_bus_layout(hardware))
    stages : Out(ArrayLayout of struct(image_layout.STAGE))
        The stage table; stages that an image does not name have no steps.
    loading, loaded : Out(1)
        ``loading`` from the cycle after ``start``; both never at once.
    image_id : Out(32)
        Zero unless ``loaded``.
    done : Out(1)
        A pulse at the end, good or bad.
    error : Out(len(registers.DeviceErrorBit))
        With ``done``: what was wrong.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        line_bytes = hardware.memory.line_bytes
        self.line_log2 = ceil_log2(line_bytes)
        self.block_lines = image_block_bytes(line_bytes) // line_bytes
        super().__init__(
            {
                "start": In(1),
                "image_address": In(64),
                "flush": Out(1),
                "busy": In(1),
                "memory": Out(memory_client_signature(hardware)),
                "load": Out(load_bus_layout(hardware)),
                "stages": Out(data.ArrayLayout(struct(STAGE), hardware.stages)),
                "loading": Out(1),
                "loaded": Out(1),
                "image_id": Out(32),
                "done": Out(1),
                "error": Out(len(DeviceErrorBit)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = fetch = LineStream(self.hardware)
        m.submodules.writer = writer = SegmentWriter(self.hardware)
        connect(m, fetch.memory, flipped(self.memory))
        line, block_line = Signal(LINE_BITS + 1), Signal(LINE_BITS + 1)
        lines = Signal(LINES_BITS)
        image_line = Signal(LINE_BITS)
        block = Signal(BLOCK_BITS)  # header, or what describes a segment
        filled = Signal(range(BLOCK_BITS // len(fetch.data) + 1))  # beats of it that are here
        in_header = Signal()
        in_data = Signal()  # the data of a segment is being read, not a block
        segments, identity = Signal(32), Signal(32)
        failure = Signal(len(DeviceErrorBit))
        header = data.View(struct(IMAGE_HEADER), block)
        whole = filled == BLOCK_BITS // len(fetch.data)
        m.d.comb += [
            fetch.line.eq(line),
            fetch.lines.eq(lines),
            writer.segment.eq(block),
            writer.beat.eq(fetch.beat & in_data),
            writer.data.eq(fetch.data),
            self.load.eq(writer.load),
        ]
        with m.If(fetch.beat & ~in_data & ~whole):
            m.d.sync += [block.eq(Cat(block, fetch.data)[-BLOCK_BITS:]), filled.eq(filled + 1)]
        self._stage_table(m)

        def fail(bit):
            m.d.sync += failure.eq(1 << bit)
            m.next = "DONE"

        def fetch_block(at):
            m.d.sync += [line.eq(at), lines.eq(self.block_lines), filled.eq(0), in_data.eq(0)]
            m.d.sync += block_line.eq(at + self.block_lines)
            m.next = "FETCH"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += failure.eq(0)
                with m.If(self.start):
                    m.d.comb += self.flush.eq(1)
                    m.d.sync += [self.loading.eq(1), self.loaded.eq(0), self.image_id.eq(0)]
                    m.d.sync += image_line.eq(self.image_address >> self.line_log2)
                    m.next = "FLUSH"
                    with m.If(self._misplaced()):
                        fail(DeviceErrorBit.IMAGE_MEMORY)
            with m.State("FLUSH"):
                with m.If(~self.busy):
                    m.d.sync += in_header.eq(1)
                    fetch_block(image_line)
            with m.State("FETCH"):
                m.d.comb += fetch.go.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(fetch.done):
                    with m.If(fetch.failed):
                        fail(DeviceErrorBit.IMAGE_MEMORY)
                    with m.Elif(in_data):
                        m.next = "NEXT"
                    with m.Elif(in_header):
                        m.next = "HEADER"
                    with m.Else():
                        m.next = "SEGMENT"
            with m.State("HEADER"):
                m.d.sync += [segments.eq(header.segments), identity.eq(header.image_id)]
                m.d.sync += in_header.eq(0)
                m.next = "NEXT"
                with m.If(header.magic != IMAGE_MAGIC):
                    fail(DeviceErrorBit.IMAGE_MAGIC)
                with m.Elif(header.version != abi.VERSION):
                    fail(DeviceErrorBit.IMAGE_VERSION)
                with m.Elif(header.digest != self.hardware.digest()):
                    fail(DeviceErrorBit.IMAGE_DIGEST)
            with m.State("SEGMENT"):
                m.d.comb += writer.begin.eq(1)
                m.d.sync += [
                    line.eq(image_line + writer.segment.line),
                    lines.eq(writer.lines),
                    in_data.eq(1),
                ]
                m.next = "FETCH"
                with m.If(~writer.known):
                    fail(DeviceErrorBit.IMAGE_MEMORY)
                with m.Elif(writer.segment.words == 0):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += segments.eq(segments - 1)
                fetch_block(block_line)
                with m.If(segments == 0):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [self.done.eq(1), self.error.eq(failure)]
                m.d.sync += self.loading.eq(0)
                with m.If(failure == 0):
                    m.d.sync += [self.loaded.eq(1), self.image_id.eq(identity)]
                m.next = "IDLE"
        return m

    def _misplaced(self):
        """Whether the image address is unaligned, or has bits that no line number has."""
        outside = self.image_address[LINE_BITS + self.line_log2 :]
        return self.image_address[: self.line_log2].any() | outside.any()

    def _stage_table(self, m):
        """Keep the stage table, the one on-chip memory that all units read at once."""
        count = self.hardware.stages
        m.submodules.stage_port = port = LoadPort(
            hardware=self.hardware,
            target=target_id(Target.STAGES, 0),
            width=STAGE.bits,
            depth=count,
        )
        m.d.comb += port.bus.eq(self.load)
        for stage in range(count):
            with m.If(self.flush):
                m.d.sync += self.stages[stage].eq(0)
            with m.Elif(port.en & (port.addr == stage)):
                m.d.sync += self.stages[stage].eq(port.data)
