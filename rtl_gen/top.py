"""The whole machine, with its ports under the names that they have in Verilog."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.array import ReconfigurableArray
from rtl_gen.bins import Bins
from rtl_gen.controller import PARTS, Controller
from rtl_gen.features import FeatureBuffer
from rtl_gen.gather import GatherUnit
from rtl_gen.host import HostPort
from rtl_gen.loader import Loader
from rtl_gen.memory import MemoryPorts
from rtl_gen.ram_queue import RamQueue
from rtl_gen.registers import Registers
from rtl_gen.static_region import StaticRegion
from rtl_gen.topk import TopK
from rtl_gen.trace import TRACE, trace_layout
from rtl_gen.unfiltered import Unfiltered

__all__ = ["RPAccel"]

REGISTERS = "s_axil"
HOST = "m_axi_host"
MEMORY = "m_axi_mem{}"
FILTERS = {"exact": TopK, "bins": Bins, "none": Unfiltered}


def _port_name(prefix: str, name: str) -> str:
    return f"{prefix}_{name}"


class RPAccel(wiring.Component):
    """The machine of a configuration. It works while ENABLE is set and an image is loaded.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    irq : Out(1)
        Interrupt, active high until it is cleared.
    s_axil_* : axi_lite_signature, slave
        Registers.
    m_axi_host_* : axi_read_signature and axi_write_signature, master
        Host memory.
    m_axi_mem0_* and so on : axi_read_signature, master
        Channels of the device memory.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        self._registers = Registers(hardware)
        self._host = HostPort(hardware)
        self._memory = MemoryPorts(hardware)
        buses = [(REGISTERS, self._registers.bus), (HOST, self._host.read)]
        buses += [(HOST, self._host.write)]
        buses += [(MEMORY.format(n), bus) for n, bus in enumerate(self._memory.channels)]
        self._buses = buses
        super().__init__(
            {"irq": Out(1)}
            | {
                _port_name(prefix, name): member
                for prefix, bus in buses
                for name, member in bus.signature.members.items()
            }
        )

    def elaborate(self, platform):
        m = Module()
        hardware = self.hardware
        stages = range(hardware.stages)
        m.submodules.registers = registers = self._registers
        m.submodules.host = host = self._host
        m.submodules.memory = memory = self._memory
        m.submodules.loader = loader = Loader(hardware)
        m.submodules.controller = controller = Controller(hardware)
        m.submodules.static = static = StaticRegion(hardware)
        m.submodules.features = features = FeatureBuffer(hardware)
        gathers = [GatherUnit(hardware=hardware, stage=s) for s in stages]
        m.submodules.array = array = ReconfigurableArray(hardware)
        topks = [FILTERS[hardware.filter_of(s)](hardware=hardware, stage=s) for s in stages]
        for name, units in ("gather", gathers), ("topk", topks):
            for number, unit in enumerate(units):
                m.submodules[f"{name}{number}"] = unit

        self._ports(m)
        connect(m, controller.host, host.client)
        connect(m, controller.feature_write, features.write)
        m.d.comb += features.arriving.eq(controller.arriving)
        clients = iter(memory.clients)
        connect(m, loader.memory, next(clients))
        lanes = iter(static.lane)
        for s, (gather, topk) in enumerate(zip(gathers, topks, strict=True)):
            connect(m, controller.token[s], gather.token)
            connect(m, controller.plan[s], topk.plan)
            connect(m, gather.feature, features.port[s])
            for lane in gather.memory:
                connect(m, lane, next(clients))
            for lane in gather.static:
                connect(m, lane, next(lanes))
            connect(m, gather.fail, controller.fail[s])
            connect(m, topk.ranked, controller.ranked[s])
            m.d.comb += [
                gather.load.eq(loader.load),
                gather.flush.eq(loader.flush),
                gather.stage_entry.eq(loader.stages[s]),
                topk.threshold.eq(loader.stages[s].threshold),
                controller.bad_index[s].eq(gather.bad_index),
                controller.saturated[s].eq(topk.saturation),
            ]
            connect(m, gather.group, array.i[s])
            connect(m, array.scores[s], topk.i)
        m.d.comb += [
            static.load.eq(loader.load),
            array.load.eq(loader.load),
            array.barred.eq(registers.dispatch),
        ]
        if hardware.settings:
            m.d.comb += [
                array.setting.eq(registers.setting),
                registers.changing.eq(array.changing),
            ]
        self._survivors(m, topks, gathers)
        self._control(m, registers, controller, loader, gathers)
        units = self._counters(m, registers.counters, controller, gathers, array, topks)
        self._trace(m, units, controller, gathers, array, topks)
        return m

    def _ports(self, m):
        """Wire the buses to the ports that bear their names."""
        m.d.comb += self.irq.eq(self._registers.irq)
        for prefix, bus in self._buses:
            for name, member in bus.signature.members.items():
                port, inside = getattr(self, _port_name(prefix, name)), getattr(bus, name)
                m.d.comb += port.eq(inside) if member.flow == Out else inside.eq(port)

    def _survivors(self, m, topks, gathers):
        """Pass positions from each stage to the next, or that a release had none.

        A query's survivors of a stage are at most the depth of its top-k unit, and all are taken
        before the query gives its slot back: this queue is never full, so the filter never waits.
        """
        hardware = self.hardware
        for s, (topk, gather) in enumerate(zip(topks, gathers[1:], strict=False)):
            m.submodules[f"survivors{s}"] = queue = RamQueue(
                abi.POSITION_BITS,
                depth=max(2, hardware.query_slots * topk.depth),
                macro_bits=hardware.sram_macro_bits,
            )
            connect(m, topk.survivor, queue.i)
            connect(m, queue.o, gather.position)
            m.d.comb += gather.empty.eq(topk.empty)

    def _control(self, m, registers, controller, loader, gathers):
        """Registers, controller and loader."""
        busy = 0
        for gather in gathers:
            busy |= gather.busy
        m.d.comb += [
            loader.start.eq(registers.load),
            loader.image_address.eq(registers.image_address),
            loader.busy.eq(busy),
            controller.hold.eq(registers.load | loader.loading),
            controller.stages.eq(loader.stages),
            controller.image_loaded.eq(loader.loaded),
            controller.image_id.eq(loader.image_id),
            registers.loading.eq(loader.loading),
            registers.image_loaded.eq(loader.loaded),
            registers.image_id.eq(loader.image_id),
            registers.loaded.eq(loader.done),
            registers.error.eq(loader.error | controller.error),
            registers.idle.eq(controller.idle),
            registers.sq_head.eq(controller.sq_head),
            registers.cq_tail.eq(controller.cq_tail),
            registers.completion.eq(controller.completion),
        ]
        for name in "enable", "sq_base", "sq_log2", "sq_tail", "cq_base", "cq_log2", "cq_head":
            m.d.comb += getattr(controller, name).eq(getattr(registers, name))

    def _counters(self, m, counters, controller, gathers, array, topks):
        """Increments of all units to the registers, by their names in the ABI; returns them."""
        for name in "active", "queries", "failed":
            m.d.comb += counters.device[name].eq(controller.counters[name])
        m.d.comb += [
            counters.device.host_read_bytes.eq(self._host.read_bytes),
            counters.device.host_write_bytes.eq(self._host.written_bytes),
            counters.device.memory_read_bytes.eq(self._memory.read_bytes),
        ]
        units = {
            "host_read": self._host.read_counters,
            "host_write": self._host.write_counters,
            **{name: controller.parts[name] for name in PARTS},
            **{f"memory{n}": step for n, step in enumerate(self._memory.counters)},
            **{f"gather{n}": unit.counters for n, unit in enumerate(gathers)},
            **{f"topk{n}": unit.counters for n, unit in enumerate(topks)},
            **{name: array.counters[name] for name in array.counters.shape().members},
        }
        for unit, step in units.items():
            m.d.comb += [counters[unit][name].eq(step[name]) for name in step.shape().members]
        return units

    def _trace(self, m, units, controller, gathers, array, topks):
        """Bring together what a simulation may watch; nothing in the machine depends on it."""
        trace = Signal(trace_layout(self.hardware), name=TRACE)
        m.d.comb += [
            trace.controller.eq(controller.trace),
            trace.copied.eq(controller.feature_write.valid),
            *(
                trace.states[unit][name].eq(units[unit][name])
                for unit, states in trace.states.shape()
                for name, _ in states.shape
            ),
            *(
                trace[f"group{g}"].eq(getattr(array, f"trace_{g}"))
                for g in range(len(self.hardware.groups))
            ),
        ]
        for s, (gather, topk) in enumerate(zip(gathers, topks, strict=True)):
            own, token = trace[f"stage{s}"], gather.token

            def moves(port):
                return port.valid & port.ready

            m.d.comb += [
                own.taken.eq(moves(token)),
                own.slot.eq(token.p.slot),
                own.items.eq(token.p.items),
                own.started.eq(moves(gather.group.start)),
                own.gathered.eq(gather.group.item_valid),
                own.score.eq(moves(topk.i)),
                own.score_last.eq(moves(topk.i) & topk.i.p.last),
                own.plan.eq(moves(topk.plan)),
                own.count.eq(Mux(topk.plan.p.emit, topk.plan.p.count, 0)),
                own.leaves.eq(topk.counters.released),
            ]
