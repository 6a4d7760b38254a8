"""Which groups have the array: a setting's, each from when those it shares with are empty."""

from amaranth.hdl import Array, Cat, Const, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.hardware import HardwareConfig

__all__ = ["Regroup"]


class Regroup(wiring.Component):
    """Hand the sub-arrays of groups that a setting switches off to those that it switches on.

    A group that is switched off gets no tokens from the next cycle on. Two cycles after it is idle
    the groups that share sub-arrays with it, and wait for no other, are open. Other groups have no
    part in it.

    Parameters
    ----------
    hardware : HardwareConfig
        With settings.

    Members
    -------
    setting : In(abi.SETTING_BITS)
        Number of the setting; a number beyond means 0.
    idle : In(groups)
        Groups that have no tokens; all those that share no sub-arrays are counted as idle.
    on : Out(groups)
        Groups of the setting.
    active : Out(groups)
        Groups that have their sub-arrays: of those that share some, one at most.
    open : Out(groups)
        Groups that may start tokens: both.
    changing : Out(1)
        A group of the setting is not open yet.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        groups = len(hardware.groups)
        super().__init__(
            {
                "setting": In(abi.SETTING_BITS),
                "idle": In(groups),
                "on": Out(groups),
                "active": Out(groups, init=self._mask(0)),
                "open": Out(groups),
                "changing": Out(1),
            }
        )

    def _mask(self, setting):
        return sum(1 << group for group in self.hardware.settings[setting])

    def elaborate(self, platform):
        m = Module()
        masks = [Const(self._mask(n), len(self.on)) for n in range(len(self.hardware.settings))]
        known = self.setting < len(masks)
        m.d.comb += [
            self.on.eq(Array(masks)[Mux(known, self.setting, 0)]),
            self.open.eq(self.on & self.active),
            self.changing.eq(self.open != self.on),
        ]
        for group in range(len(self.on)):
            others = self.hardware.overlapping(group)
            taken = Cat(self.active[other] for other in others).any()
            with m.If(self.on[group] & ~taken):
                m.d.sync += self.active[group].eq(1)
            with m.Elif(~self.on[group] & self.idle[group]):
                m.d.sync += self.active[group].eq(0)
        return m
