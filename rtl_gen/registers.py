"""The registers: control, status, rings, capabilities and performance counters on AXI4-Lite."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import counters_of
from rpaccel.hardware import HardwareConfig
from rpaccel.registers import (
    CAPABILITIES,
    CAPABILITY_BASE,
    DEVICE_ID,
    REGISTER_SPACE_BITS,
    REGISTERS,
    Control,
    DeviceErrorBit,
    Interrupt,
    Setting,
    capability_values,
)
from rtl_gen.signatures import axi_lite_signature, counter_layout

__all__ = ["COUNTER_BITS", "Registers"]

COUNTER_BITS = 48
WORD_BITS = 32


class Registers(wiring.Component):
    """AXI4-Lite slave with the registers of :mod:`rpaccel.abi`.

    Address and data of a write may come in any order; it takes effect the cycle before its
    response is valid. A read is answered two cycles after its address was taken. One write and one
    read at a time. Unknown addresses read zero, writes to them are ignored; every answer is OKAY.
    Reading the low word of ``device.cycles`` copies all counters, and all reads give the copies: so
    what a host reads after it is of one moment.
    The low two address bits are ignored, write strobes are honoured.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    bus : In(axi_lite_signature())
    enable, image_address, sq_base, sq_log2, sq_tail, cq_base, cq_log2, cq_head : Out
        Contents of the control registers, low and high halves joined.
    dispatch : Out(4 * hardware.group_room)
        Bit ``4 * g + s``: group g gets no tokens of stage s.
    setting, changing : Out(abi.SETTING_BITS), In(1)
        Of a machine with settings: the one that was chosen, and whether groups wait for it.
    load : Out(1)
        High for one cycle when LOAD was written while ``idle`` and not ``loading``.
    idle, loading, image_loaded, image_id, sq_head, cq_tail : In
        What the status registers show.
    error : In(len(registers.DeviceErrorBit))
        Sets bits of ERROR. RING_OVERRUN and LOAD_BUSY are set by the registers themselves, too.
    completion, loaded : In(1)
        Set bits of IRQ_STATUS.
    counters : In(counter_layout(hardware))
        What the performance counters advance by in this cycle.
    irq : Out(1)
        A bit of IRQ_STATUS is set that IRQ_ENABLE lets through.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        super().__init__(
            {
                "bus": In(axi_lite_signature()),
                "enable": Out(1),
                "load": Out(1),
                "image_address": Out(64),
                "sq_base": Out(64),
                "sq_log2": Out(4),
                "sq_tail": Out(16),
                "cq_base": Out(64),
                "cq_log2": Out(4),
                "cq_head": Out(16),
                "dispatch": Out(4 * hardware.group_room),
                **(
                    {"setting": Out(abi.SETTING_BITS), "changing": In(1)}
                    if hardware.settings
                    else {}
                ),
                "idle": In(1),
                "loading": In(1),
                "image_loaded": In(1),
                "image_id": In(32),
                "sq_head": In(16),
                "cq_tail": In(16),
                "error": In(len(DeviceErrorBit)),
                "completion": In(1),
                "loaded": In(1),
                "counters": In(counter_layout(hardware)),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._errors = Signal(len(DeviceErrorBit))
        self._irq_enable = Signal(len(Interrupt))
        self._irq_status = Signal(len(Interrupt))
        self._elaborate_write(m)
        self._elaborate_read(m)
        m.d.comb += self.irq.eq((self._irq_status & self._irq_enable).any())
        return m

    def _plain(self):
        """Read-write registers without side effects, by name: the signal each one is."""
        return {
            "IMAGE_ADDRESS_LO": self.image_address[:32],
            "IMAGE_ADDRESS_HI": self.image_address[32:],
            "IRQ_ENABLE": self._irq_enable,
            "SQ_BASE_LO": self.sq_base[:32],
            "SQ_BASE_HI": self.sq_base[32:],
            "SQ_LOG2": self.sq_log2,
            "CQ_BASE_LO": self.cq_base[:32],
            "CQ_BASE_HI": self.cq_base[32:],
            "CQ_LOG2": self.cq_log2,
            "CQ_HEAD": self.cq_head,
            **{
                f"DISPATCH_{n}": self.dispatch.word_select(n, WORD_BITS)
                for n in range(self.hardware.group_room // 8)
            },
            **({"SETTING": self.setting} if self.hardware.settings else {}),
        }

    def _elaborate_write(self, m):
        bus = self.bus
        have_address, have_data, write = Signal(), Signal(), Signal()
        word = Signal(REGISTER_SPACE_BITS - 2)
        data, mask = Signal(WORD_BITS), Signal(WORD_BITS)
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            write.eq(have_address & have_data & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [have_address.eq(1), word.eq(bus.awaddr >> 2)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += have_data.eq(1)
            m.d.sync += data.eq(bus.wdata)
            m.d.sync += mask.eq(Cat(bit.replicate(8) for bit in bus.wstrb))
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [have_address.eq(0), have_data.eq(0), bus.bvalid.eq(1)]

        def merged(old):
            return ((old & ~mask) | (data & mask))[: len(old)]

        def written(name):
            return write & (word == REGISTERS[name].address >> 2)

        for name, register in self._plain().items():
            with m.If(written(name)):
                m.d.sync += register.eq(merged(register))

        events = Signal(len(DeviceErrorBit))
        load = (data & mask)[Control.LOAD]
        m.d.comb += events.eq(self.error)
        with m.If(written("CONTROL")):
            m.d.sync += self.enable.eq(merged(self.enable))
            with m.If(self.idle & ~self.loading):
                m.d.comb += self.load.eq(load)
            with m.Elif(load):
                m.d.comb += events[DeviceErrorBit.LOAD_BUSY].eq(1)

        # A tail that outruns the ring would make the device read entries that are being written.
        tail = merged(self.sq_tail)
        ahead = (tail - self.sq_head)[:16]
        with m.If(written("SQ_TAIL")):
            with m.If(ahead > 1 << self.sq_log2):
                m.d.comb += events[DeviceErrorBit.RING_OVERRUN].eq(1)
            with m.Else():
                m.d.sync += self.sq_tail.eq(tail)

        raised = Signal(len(Interrupt))
        m.d.comb += [
            raised[Interrupt.COMPLETION].eq(self.completion),
            raised[Interrupt.LOADED].eq(self.loaded),
            raised[Interrupt.ERROR].eq(events.any()),
        ]
        # Writing one clears; an event in the same cycle wins, so that none is lost.
        cleared = data & mask
        for name, register, set_bits in (
            ("ERROR", self._errors, events),
            ("IRQ_STATUS", self._irq_status, raised),
        ):
            m.d.sync += register.eq((register & ~Mux(written(name), cleared, 0)) | set_bits)

    def _read_values(self):
        """Values of the registers and capabilities, by byte address."""
        digest = self.hardware.digest()
        status = Cat(self.image_loaded, self.loading, self.idle)  # bits of registers.DeviceStatus
        values = {
            "ID": DEVICE_ID,
            "VERSION": abi.VERSION,
            "DIGEST_LO": digest & 0xFFFF_FFFF,
            "DIGEST_HI": digest >> 32,
            "CONTROL": self.enable << Control.ENABLE,
            "STATUS": status,
            "ERROR": self._errors,
            "IMAGE_ID": self.image_id,
            "IRQ_STATUS": self._irq_status,
            "SQ_TAIL": self.sq_tail,
            "SQ_HEAD": self.sq_head,
            "CQ_TAIL": self.cq_tail,
            **self._plain(),
        }
        if self.hardware.settings:
            values["SETTING"] |= self.changing << Setting.CHANGING
        by_address = {REGISTERS[name].address: value for name, value in values.items()}
        capabilities = capability_values(self.hardware)
        for number, name in enumerate(CAPABILITIES):
            by_address[CAPABILITY_BASE + 4 * number] = capabilities[name]
        return by_address

    def _counts(self, m):
        """Performance counters, now and as copied, by byte address of their low words."""
        counts = {}
        for name, counter in counters_of(self.hardware).items():
            unit, field = name.split(".")
            step = 1 if name == "device.cycles" else self.counters[unit][field]
            count = Signal(COUNTER_BITS, name=f"count_{unit}_{field}")
            copy = Signal(COUNTER_BITS, name=f"copy_{unit}_{field}")
            m.d.sync += count.eq(count + step)
            counts[counter.address] = count, copy
        return counts

    def _elaborate_read(self, m):
        bus = self.bus
        have_address = Signal()
        word = Signal(REGISTER_SPACE_BITS - 2)
        m.d.comb += bus.arready.eq(~have_address)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [have_address.eq(1), word.eq(bus.araddr >> 2)]
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        counts = self._counts(m)
        clock = counters_of(self.hardware)["device.cycles"].address
        with m.If(have_address & ~bus.rvalid):
            m.d.sync += [have_address.eq(0), bus.rvalid.eq(1), bus.rdata.eq(0)]
            with m.Switch(word):
                for address, value in self._read_values().items():
                    with m.Case(address >> 2):
                        m.d.sync += bus.rdata.eq(value)
                for address, (now, copy) in counts.items():
                    with m.Case(address >> 2):
                        m.d.sync += bus.rdata.eq(now if address == clock else copy)
                    with m.Case((address >> 2) + 1):
                        m.d.sync += bus.rdata.eq(copy >> WORD_BITS)
            with m.If(word == clock >> 2):
                m.d.sync += [copy.eq(now) for now, copy in counts.values()]
