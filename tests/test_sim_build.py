"""Simulator builds: cached on everything that goes in, and judged by what cocotb says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rpaccel.errors import BuildError, ConfigError, MismatchError
from sim import build as build_module
from sim import recipe as recipe_module
from sim.build import build
from sim.verilog import control_file, port_names

COUNTER = """\
module counter #(parameter WIDTH = 16) (
    input wire clk, rst,
    output reg [WIDTH-1:0] q
);
    inner inner();
    always @(posedge clk) q <= rst ? 0 : q + `STEP;
endmodule
module inner; reg [7:0] hidden; initial hidden = 5; endmodule
"""
TESTS = "tests.tb_counter"


def counter(text=COUNTER, **options):
    macros = options.pop("macros", {"STEP": 1})
    return build({"counter.v": text}, "counter", macros=macros, quiet=True, **options)


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """Cache entries that builds make, without any tool being run."""
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path))
    made = []

    def make(recipe, entry, say):
        made.append(entry.name)
        entry.mkdir(parents=True)
        (entry / "recipe.json").write_text("{}")

    monkeypatch.setattr(build_module, "make", make)
    return made


def test_run_counts_tests_that_passed(tmp_path):
    assert counter().run(TESTS, testcase="counts", work=tmp_path) == 1


def test_macro_and_parameter_reach_the_design(tmp_path):
    three = counter(macros={"STEP": 3}, parameters={"WIDTH": 12})
    three.run(TESTS, testcase="counts", work=tmp_path, env={"STEP": "3"})
    with pytest.raises(MismatchError, match=r"counts failed, see .*sim\.log: assert 300 == "):
        three.run(TESTS, testcase="counts", work=tmp_path)


@pytest.mark.parametrize(
    ("test", "error", "said"),
    [
        ("differs", MismatchError, "item 3: score 5, golden 7"),
        ("breaks", BuildError, "no such thing"),
        ("nothing", BuildError, "simulation ran no test"),
        ("crashes", BuildError, "simulation ended without results"),
    ],
)
def test_a_run_without_success_raises(test, error, said, tmp_path):
    with pytest.raises(error, match=said):
        counter().run(TESTS, testcase=test, work=tmp_path)


def test_results_of_an_earlier_run_do_not_count(tmp_path):
    counter().run(TESTS, testcase="counts", work=tmp_path)
    with pytest.raises(BuildError, match="without results"):
        counter().run(TESTS, testcase="crashes", work=tmp_path)


def test_a_run_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(BuildError, match="simulation still running after 2 s"):
        counter().run(TESTS, testcase="hangs", work=tmp_path, timeout=2)


def test_leaving_the_block_ends_the_simulator(tmp_path):
    with counter().start(TESTS, testcase="hangs", work=tmp_path) as simulation:
        assert simulation.running
    assert not simulation.running


def test_waves(tmp_path):
    with pytest.raises(ConfigError, match="built without waves"):
        counter().run(TESTS, testcase="counts", work=tmp_path, waves=tmp_path / "x.vcd")
    recorder = counter(waves=True)
    recorder.run(TESTS, testcase="counts", work=tmp_path, waves=tmp_path / "deep" / "x.vcd")
    assert "$enddefinitions" in (tmp_path / "deep" / "x.vcd").read_text()


def test_only_ports_and_what_is_named_are_visible(tmp_path):
    with pytest.raises(BuildError, match="hidden"):
        counter().run(TESTS, testcase="sees_hidden", work=tmp_path)
    open_counter = counter(public={"inner": ["hidden"]})
    open_counter.run(TESTS, testcase="sees_hidden", work=tmp_path)


APART = """\
module counter #(parameter WIDTH = 16) (
    input wire clk, rst,
    output wire [WIDTH-1:0] q
);
    wire [WIDTH-1:0] other;
    half first(.clk(clk), .rst(rst), .\\on.now (1'b1), .more(8'd1), .q(q));
    half second(.clk(clk), .rst(rst), .\\on.now (|q), .more(q[7:0]), .q(other));
endmodule

module half (clk, rst, \\on.now , more, q);
  /* verilator no_inline_module */
  input clk;
  input rst;
  input \\on.now ;
  input [7:0] more;
  output reg [15:0] q;
  always @(posedge clk) if (rst) q <= 0; else if (\\on.now ) q <= q + {8'd0, more};
endmodule
"""


def test_modules_of_large_designs_are_compiled_once(monkeypatch, tmp_path):
    control = control_file({"a.v": APART}, "counter", {}, apart=True)
    kept = [f'public_flat_rd -module "half" -var "{n}"' for n in ("on.now", "more")]
    assert 'no_inline -module "half"' in control
    assert [line for line in control.splitlines() if "flat_rd" in line] == kept
    assert "half" not in control_file({"a.v": APART}, "counter", {}, apart=False)
    monkeypatch.setattr(build_module, "_LARGE", 0)
    built = counter(APART)
    assert built.run(TESTS, testcase="counts", work=tmp_path) == 1
    assert json.loads((built.directory / "recipe.json").read_text())["large"]


def test_equal_designs_share_a_build_and_others_do_not(recipes):
    counter()
    counter()
    assert len(recipes) == 1
    for options in (
        {"text": COUNTER.replace("16", "8")},
        {"macros": {"STEP": 2}},
        {"parameters": {"WIDTH": 8}},
        {"waves": True},
        {"public": {"inner": ["hidden"]}},
        {"optimise": "-O1"},
    ):
        counter(**options)
    assert len(recipes) == len(set(recipes)) == 7


def test_another_compiler_means_another_build(recipes, monkeypatch):
    counter()
    monkeypatch.setattr(recipe_module, "cxx_version", lambda: "g++ 99")
    counter()
    assert len(set(recipes)) == 2


def test_a_bad_design_says_why_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=r"verilator failed(?s:.*)syntax error"):
        counter(COUNTER.replace("posedge", "possedge;"))
    assert [file.suffix for file in (tmp_path / "simulators").iterdir() if file.is_dir()] == []
    with pytest.raises(BuildError, match="no module counter in the Verilog sources"):
        counter("module other; endmodule")


def test_unknown_simulator_and_unusable_path(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="must be one of verilator, icarus, not 'vcs'"):
        counter(simulator="vcs")
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path / "a b"))
    with pytest.raises(BuildError, match="set RPACCEL_CACHE to a path without spaces"):
        counter()


def test_an_interrupted_build_leaves_nothing_and_no_process(tmp_path):
    script = f"from tests.test_sim_build import counter; counter({COUNTER!r})"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "RPACCEL_CACHE": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        # A test run in the background ignores SIGINT, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    simulators = tmp_path / "simulators"
    while not list(simulators.glob("*.tmp/*.gch*")) + list(simulators.glob("*.tmp/Vtop.mk")):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.wait(20) != 0
    assert not [path for path in simulators.iterdir() if path.is_dir()]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in command.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("module m(clk, \\q );\ninput clk;", ["clk", "q"]),
        ("module m #(parameter W = f(1), X = 2) (input [W-1:0] a, b, output reg c);", list("abc")),
        ("module m(input wire a /* , x */, // y,\n (* keep *) output [3:0] b);", ["a", "b"]),
        ("module m2(input x); endmodule module m;", []),
    ],
)
def test_port_names(text, names):
    assert port_names(text, "m") == names
