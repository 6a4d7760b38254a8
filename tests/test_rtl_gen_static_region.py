"""The static region: macros against memory, and that each is one lane's."""

import os

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rpaccel.errors import BuildError
from rtl_gen.emit import emit
from rtl_gen.static_region import StaticRegion, static_port
from sim.build import build
from tests.machines import small_hardware

MACROS, MACRO_LINES, BEATS, LANES = 5, 3, 2, 3


def hardware(macro_bits):
    gather = [{"lanes": 2, "cache_lines": 4}, {"cache_lines": 4}]
    memory = {"bus_bytes": 8, "line_bytes": 16}
    sizes = {"static_macros": MACROS, "macro_lines": MACRO_LINES, "sram_macro_bits": macro_bits}
    return small_hardware(gather=gather, memory=memory, **sizes)


class Pair(wiring.Component):
    """Two static regions with the same inputs, one a memory and one macros."""

    def __init__(self):
        self.regions = [StaticRegion(hardware(bits)) for bits in (1 << 20, 0)]
        members = self.regions[0].signature.members
        addr = static_port(hardware(0)).members["addr"]
        lane = wiring.Signature({"en": Out(1), "addr": addr})
        shown = {f"{kind}_data{n}": Out(64) for n in range(LANES) for kind in ("memory", "macro")}
        super().__init__({"load": members["load"], "lane": In(lane).array(LANES), **shown})

    def elaborate(self, platform):
        m = Module()
        for kind, region in zip(("memory", "macro"), self.regions, strict=True):
            m.submodules[kind] = region
            m.d.comb += region.load.eq(self.load)
            for number, (port, lane) in enumerate(zip(self.lane, region.lane, strict=True)):
                m.d.comb += [
                    lane.en.eq(port.en),
                    lane.addr.eq(port.addr),
                    getattr(self, f"{kind}_data{number}").eq(lane.data),
                ]
        return m


@pytest.fixture(scope="module")
def simulator():
    files, _ = emit(Pair(), "static_pair")
    return build(files, "static_pair", quiet=True)


@pytest.fixture
def run(simulator, request, tmp_path):
    seed = os.environ.get("RPACCEL_SEED", request.node.nodeid)
    sizes = {"LANES": LANES, "MACROS": MACROS, "MACRO_WORDS": MACRO_LINES * BEATS}
    env = {"SEED": seed, **{name: str(value) for name, value in sizes.items()}}
    return lambda test: simulator.run(
        "tests.tb_static_region", testcase=test, work=tmp_path, env=env
    )


def test_macros_equal_memory(run):
    run("lanes_read_their_macros")


def test_a_macro_is_one_lanes(run):
    with pytest.raises(BuildError, match="lanes 0 and 1 read static macro 2"):
        run("two_lanes_read_a_macro")
