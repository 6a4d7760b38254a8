"""The reconfigurable array: all groups of a machine, and what shares out tokens to them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.dispatcher import Dispatcher
from rtl_gen.emit import share
from rtl_gen.group import Group
from rtl_gen.regroup import Regroup
from rtl_gen.shared_cells import SharedCells
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

    In a machine with settings, those of the chosen one are on, see :class:`Regroup`.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    load : In(load_bus_layout(hardware))
        Fills the groups' memories.
    barred : In(4 * hardware.group_room)
        Bit ``4 * g + s``: group g gets no tokens of stage s, see :class:`Dispatcher`.
    setting, changing : In(abi.SETTING_BITS), Out(1)
        Of a machine with settings: which one, and whether some of its groups are not open yet.
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
                "barred": In(4 * hardware.group_room),
                **(
                    {"setting": In(abi.SETTING_BITS), "changing": Out(1)}
                    if hardware.settings
                    else {}
                ),
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
            m.submodules[f"group{number}"] = share(group, platform)
            m.d.comb += [
                group.load.eq(self.load),
                group.number.eq(group.number.init),
                self.counters[f"group{number}"].eq(group.counters),
                getattr(self, f"trace_{number}").eq(group.watched),
            ]
        if hardware.settings:
            self._regroup(m, groups)
        for stage in range(self.stages):
            unit = Dispatcher(hardware=hardware, stage=stage)
            m.submodules[f"dispatcher{stage}"] = unit
            connect(m, flipped(self.i[stage]), unit.i)
            connect(m, unit.scores, flipped(self.scores[stage]))
            if unit.groups > 1:
                m.d.comb += self.counters[f"dispatcher{stage}"].eq(unit.counters)
            barred = self._barred(m, stage)
            for number, index in enumerate(hardware.groups_of(stage)):
                group = groups[index]
                place = hardware.groups[index].stages.index(stage)
                self._feed(m, unit.group[number], group.i[place], index)
                connect(m, group.scores[place], unit.given[number])
                m.d.comb += [
                    unit.load_cycles[number].eq(group.load_cycles),
                    unit.cost[number].eq(group.cost[place]),
                    unit.barred[number].eq(barred[number]),
                ]
        return m

    def _barred(self, m, stage):
        """Which of the groups that serve a stage get none of its tokens."""
        indices = self.hardware.groups_of(stage)
        barred = [self.barred[4 * index + stage] for index in indices]
        if not self.hardware.settings:
            return barred
        off = Cat(~self.regroup.on[index] for index in indices)
        left_out = Signal(len(indices), name=f"left_out_{stage}")
        m.d.comb += left_out.eq(Mux((Cat(barred) | off).all(), off, Cat(barred) | off))
        return left_out

    def _feed(self, m, given, port, group):
        """Connect a group's input; one that is not open starts no tokens."""
        if not self.hardware.settings:
            connect(m, given, port)
            return
        is_open = self.regroup.open[group]
        connect(m, given.write, port.write)
        m.d.comb += [
            port.start.p.eq(given.start.p),
            port.start.valid.eq(given.start.valid & is_open),
            given.start.ready.eq(port.start.ready & is_open),
            port.item_valid.eq(given.item_valid),
            port.item_position.eq(given.item_position),
        ]

    def _regroup(self, m, groups):
        """Let groups that have sub-arrays in common take turns, as the setting says."""
        m.submodules.regroup = self.regroup = regroup = Regroup(self.hardware)
        m.d.comb += [
            regroup.setting.eq(self.setting),
            self.changing.eq(regroup.changing),
        ]
        sharing = [group for group in groups if group.geometry.shares]
        for group in groups:
            m.d.comb += regroup.idle[group.group].eq(group.idle if group in sharing else 1)
        if not sharing:
            return
        m.submodules.shared = shared = SharedCells(self.hardware)
        m.d.comb += shared.active.eq(regroup.active)
        for group in sharing:
            cells = getattr(shared, f"group_{group.group}")
            for name in cells.signature.members:
                connect(m, getattr(group, name), getattr(cells, name))
