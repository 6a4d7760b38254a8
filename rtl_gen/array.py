"""The reconfigurable array: all groups of a machine, and what shares out tokens to them."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.dispatcher import Dispatcher
from rtl_gen.group import Group
from rtl_gen.signatures import (
    counter_layout,
    group_input_signature,
    load_bus_layout,
    score_layout,
)
from rtl_gen.trace import group_trace

__all__ = ["ReconfigurableArray"]


class ReconfigurableArray(wiring.Component):
    """Groups, each serving the stages of its configuration, and a dispatcher a stage.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    load : In(load_bus_layout(hardware))
        Fills the groups' memories.
    barred : In(4 << abi.GROUP_BITS)
        Bit ``4 * g + s``: group g gets no tokens of stage s, see :class:`Dispatcher`.
    i_0, i_1 and so on : In(group_input_signature(hardware, ...))
        From the gather unit of each stage.
    scores : Out(stream.Signature(score_layout(hardware))).array(stages)
        To the top-k unit of each stage.
    counters : Out(StructLayout)
        Increments of each group and dispatcher, ``group0`` and so on.
    trace_0, trace_1 and so on : Out(group_trace(hardware, group))
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        self.stages = hardware.stages
        layout = counter_layout(hardware)
        units = [name for name in layout.members if name.startswith(("group", "dispatcher"))]
        super().__init__(
            {
                "load": In(load_bus_layout(hardware)),
                "barred": In(4 << abi.GROUP_BITS),
                **{f"i_{s}": In(self._port(s)) for s in range(self.stages)},
                "scores": Out(stream.Signature(score_layout(hardware))).array(self.stages),
                "counters": Out(data.StructLayout({name: layout[name].shape for name in units})),
                **{
                    f"trace_{g}": Out(group_trace(hardware, g)) for g in range(len(hardware.groups))
                },
            }
        )

    @property
    def i(self):
        """Input ports by stage."""
        return [getattr(self, f"i_{stage}") for stage in range(self.stages)]

    def _port(self, stage):
        return group_input_signature(self.hardware, self.hardware.groups_of(stage)[0])

    def elaborate(self, platform):
        m = Module()
        hardware = self.hardware
        groups = [Group(hardware=hardware, group=g) for g in range(len(hardware.groups))]
        for number, group in enumerate(groups):
            m.submodules[f"group{number}"] = group
            m.d.comb += [
                group.load.eq(self.load),
                self.counters[f"group{number}"].eq(group.counters),
                getattr(self, f"trace_{number}").eq(group.trace),
            ]
        for stage in range(self.stages):
            unit = Dispatcher(hardware=hardware, stage=stage)
            m.submodules[f"dispatcher{stage}"] = unit
            connect(m, flipped(self.i[stage]), unit.i)
            connect(m, unit.scores, flipped(self.scores[stage]))
            if unit.groups > 1:
                m.d.comb += self.counters[f"dispatcher{stage}"].eq(unit.counters)
            for number, index in enumerate(hardware.groups_of(stage)):
                group = groups[index]
                place = hardware.groups[index].stages.index(stage)
                connect(m, unit.group[number], group.i[place])
                connect(m, group.scores[place], unit.given[number])
                m.d.comb += [
                    unit.load_cycles[number].eq(group.load_cycles),
                    unit.cost[number].eq(group.cost[place]),
                    unit.barred[number].eq(self.barred[4 * index + stage]),
                ]
        return m
