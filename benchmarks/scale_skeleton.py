"""Time an empty-headed machine of full size: generation, Verilator build, clock cycles a second.

16,384 multiply-accumulate units in 64 real sub-arrays, each with a real epilogue; lanes that
compute an address and read an SRAM macro; memory channels; 24 MB of SRAM macros. Nothing decides
anything: shift registers feed it all, so that every cycle is a busy one. Each time is given on the
clock and in processor seconds, which other work on the computer disturbs less. What was decided is
in docs/decisions/0001-scale-skeleton.md.

    python -m benchmarks.scale_skeleton [--json FILE] [--split N] [--optimise -O2] ...
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.command import figures_parser, keep
from rtl_gen.emit import emit, share
from rtl_gen.epilogue import Epilogue
from rtl_gen.ram import Ram
from rtl_gen.subarray import SubArray, sum_bits
from sim.toolchain import require, verilator

MACRO_WORDS, MACRO_WIDTH = 16384, 128  # 256 KB, the size of an SRAM macro
MACRO_BITS = MACRO_WORDS * MACRO_WIDTH

HARNESS = """
#include "Vskeleton.h"
#include "verilated.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>

int main(int count, char** arguments) {
    VerilatedContext context;
    Vskeleton top{&context};
    const long cycles = std::atol(arguments[1]);
    auto clock = [&] { top.clk = 0; top.eval(); top.clk = 1; top.eval(); };
    top.seed = 0x2545F4914F6CDD1DULL;
    top.rst = 1;
    for (int i = 0; i < 8; i++) clock();
    top.rst = 0;
    for (int i = 0; i < 300; i++) clock();  // until every tile is busy
    const auto begin = std::chrono::steady_clock::now();
    for (long i = 0; i < cycles; i++) clock();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    std::printf("%f %08x\\n", cycles / passed.count(), (unsigned)top.digest);
}
"""


class Noise(wiring.Component):
    """Pseudo-random bits: many taps of a few linear feedback shift registers."""

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({"seed": In(64), "bits": Out(width)})

    def elaborate(self, platform):
        m = Module()
        state = Signal(64, init=1)
        m.d.sync += [
            state.eq(
                (state ^ self.seed[:1]) << 1 | (state[63] ^ state[62] ^ state[60] ^ state[59])
            ),
            self.bits.eq(Cat(state, self.bits)),
        ]
        return m


class Lane(wiring.Component):
    """A gather lane: index to address in two stages, and a macro that is read and pooled."""

    module_name = "skeleton_lane"

    def __init__(self):
        super().__init__({"index": In(32), "fill": In(MACRO_WIDTH), "pooled": Out(MACRO_WIDTH)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(width=MACRO_WIDTH, depth=MACRO_WORDS)
        scaled, base = Signal(32), Signal(32)
        hit, ready = Signal(), Signal()
        m.d.sync += [
            scaled.eq(self.index[:16] * self.index[16:20]),
            hit.eq(self.index[20:] < 3000),
            base.eq(scaled + 77),
            ram.write.en.eq(self.index[:4] == 0),
            ram.write.addr.eq(self.index),
            ram.write.data.eq(self.fill),
            ready.eq(hit),
            self.pooled.eq(
                Cat(
                    self.pooled.word_select(i, 8) + ram.read.data.word_select(i, 8)
                    for i in range(MACRO_WIDTH // 8)
                )
            ),
        ]
        m.d.comb += [ram.read.en.eq(ready), ram.read.addr.eq(base)]
        return m


class Channel(wiring.Component):
    """A memory channel: requests out, beats back, a counter of outstanding reads, a buffer."""

    module_name = "skeleton_channel"

    def __init__(self):
        super().__init__({"noise": In(64), "data": Out(512)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(width=512, depth=512)
        outstanding = Signal(8)
        asks, answers = self.noise[0], self.noise[1] & (outstanding != 0)
        m.d.sync += outstanding.eq(outstanding + asks - answers)
        m.d.comb += [
            ram.write.en.eq(answers),
            ram.write.addr.eq(self.noise[8:]),
            ram.write.data.eq(self.noise.replicate(8) ^ outstanding),
            ram.read.en.eq(asks),
            ram.read.addr.eq(self.noise[20:]),
            self.data.eq(ram.read.data),
        ]
        return m


class Skeleton(wiring.Component):
    """The machine: a grid of tiles with epilogues, lanes, channels, and macros to fill the sum."""

    def __init__(self, *, grid: int, tile: int, depth: int, lanes: int, channels: int, sram: int):
        self.grid, self.tile, self.depth = grid, tile, depth
        self.lanes, self.channels, self.sram = lanes, channels, sram
        super().__init__({"seed": In(64), "digest": Out(32)})

    def elaborate(self, platform):
        m = Module()
        tile, grid = self.tile, self.grid
        m.submodules.noise = noise = Noise(width=4096)
        m.d.comb += noise.seed.eq(self.seed)
        outputs = []

        lanes = [Lane() for _ in range(max(self.lanes, self.sram * 2**23 // MACRO_BITS))]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane_{number}"] = share(lane, platform)
            # Lanes gather each cycle; the other macros only count.
            busy = number < self.lanes
            at = 37 * number % 2048
            m.d.comb += lane.index.eq(noise.bits[at:][:32] if busy else 1 << 31 | 1)
            m.d.comb += lane.fill.eq(noise.bits[at + 64 :][:MACRO_WIDTH])
            outputs.append(lane.pooled)
        for number in range(self.channels):
            channel = Channel()
            m.submodules[f"channel_{number}"] = share(channel, platform)
            m.d.comb += channel.noise.eq(noise.bits[64 * number :][:64])
            outputs.append(channel.data)
        outputs += self._tiles(m, platform, noise, outputs, tile, grid)

        m.d.sync += self.digest.eq(self.digest.rotate_left(1) ^ sum(o[:32] for o in outputs))
        return m

    def _tiles(self, m, platform, noise, lanes, tile, grid):
        sums = [0] * grid
        outputs = []
        valid = Signal(2 * grid * (tile + 1))  # mostly busy
        chosen = Signal.like(valid)
        m.d.sync += [
            valid.eq(Cat(noise.bits[:3].any(), valid)),
            chosen.eq(Cat(noise.bits[9], chosen)),
        ]
        for row in range(grid):
            west = {
                "a": Cat(lane[:8] for lane in lanes[:tile]),
                "a_valid": valid[row * (tile + 1) :][:tile],
                "a_set": chosen[row * (tile + 1) :][:tile],
            }
            for col in range(grid):
                array = SubArray(rows=tile, cols=tile, sum_bits=sum_bits(grid * tile))
                m.submodules[f"tile_{row}_{col}"] = share(array, platform)
                epilogue = Epilogue(
                    cols=tile,
                    depth=self.depth,
                    sum_bits=sum_bits(grid * tile),
                )
                m.submodules[f"epilogue_{row}_{col}"] = share(epilogue, platform)
                bits = noise.bits[131 * (row * grid + col) % 2048 :]
                m.d.comb += [
                    *(getattr(array, name).eq(value) for name, value in west.items()),
                    array.n.eq(sums[col]),
                    array.w_en.eq(bits[0]),
                    array.w_set.eq(bits[1]),
                    array.w_row.eq(bits[2:]),
                    array.w.eq(bits[64:]),
                    epilogue.sums.eq(array.s),
                    epilogue.control.valid.eq(array.e_valid[-1]),
                    epilogue.control.start.eq(bits[20:24] == 0),
                    epilogue.control.first.eq(bits[3]),
                    epilogue.control.final.eq(bits[4:6] == 0),  # a layer of four slices
                    epilogue.control.item.eq(bits[6:]),
                    epilogue.param.eq(bits[128:]),
                ]
                west = {"a": array.e, "a_valid": array.e_valid, "a_set": array.e_set}
                sums[col] = array.s
                outputs.append(epilogue.data)
        return outputs


class Clock:
    """Seconds of steps of the work, on the clock and of the processors."""

    def __init__(self, figures):
        self.figures = figures

    @contextmanager
    def step(self, name):
        begin, used = time.perf_counter(), self._used()
        yield
        self.figures[f"{name}_s"] = time.perf_counter() - begin
        self.figures[f"{name}_cpu_s"] = self._used() - used
        print(f"{name}: {self.figures[f'{name}_s']:.1f} s", flush=True)

    @staticmethod
    def _used():
        return sum(os.times()[:4])


def run(command, folder, log):
    """Run a tool; what it says is shown only if it fails."""
    with open(folder / log, "w") as file:
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n" + (folder / log).read_text()[-3000:])


def generate(options, folder):
    """Write the Verilog; returns the names of the files."""
    top = Skeleton(
        grid=options.grid, tile=options.tile, depth=512, lanes=26, channels=4, sram=options.sram
    )
    files, _ = emit(top, "skeleton")
    for name, text in files.items():
        if options.inline:
            text = text.replace("/* verilator no_inline_module */", "")
        (folder / name).write_text(text)
    (folder / "main.cpp").write_text(HARNESS)
    return list(files)


def verilate(options, folder, files):
    command = [str(verilator()), "--cc", "--exe", "-O3", "--noassert", "--no-timing"]
    command += ["--x-assign", "fast", "--x-initial", "fast"]
    command += ["-Wno-lint", "-Wno-style", "-Wno-fatal"]
    if options.split:
        command += ["--output-split-cfuncs", str(options.split)]
    run(
        [*command, "--top", "skeleton", "--Mdir", "obj", *files, "main.cpp"], folder, "verilate.log"
    )


def measure(options):
    """Generate, build and run; returns the figures."""
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {"load_average_before": os.getloadavg()[0]}
    clock = Clock(figures)
    with clock.step("generate"):
        files = generate(options, folder)
    figures["generate_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["verilog_mb"] = sum((folder / name).stat().st_size for name in files) / 1e6
    with clock.step("verilate"):
        verilate(options, folder, files)
    figures["cpp_mb"] = sum(f.stat().st_size for f in (folder / "obj").glob("*.cpp")) / 1e6
    if options.cycles:
        with clock.step("compile"):
            make = [str(require("make")), "-C", "obj", "-f", "Vskeleton.mk", "-j", "2"]
            run([*make, f"OPT_FAST={options.optimise}"], folder, "compile.log")
        figures["macs"] = (options.grid * options.tile) ** 2
        figures["cycles_per_s"], figures["cycles_per_cpu_s"] = simulate(options, folder)
    figures["load_average_after"] = os.getloadavg()[0]
    return figures


def simulate(options, folder):
    """Cycles a second of some runs, and a processor second of all; runs must agree."""
    speeds, digests = [], set()
    used = os.times().children_user
    for _ in range(options.repeat):
        command = [str(folder / "obj" / "Vskeleton"), str(options.cycles)]
        speed, digest = subprocess.check_output(command, text=True).split()
        speeds.append(float(speed))
        digests.add(digest)
    if len(digests) != 1:
        sys.exit(f"runs differ: {digests}")
    return speeds, options.repeat * options.cycles / (os.times().children_user - used)


def main():
    parser = figures_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/scale_skeleton"))
    parser.add_argument("--grid", type=int, default=8, help="tiles in a row and in a column")
    parser.add_argument("--tile", type=int, default=16, help="rows and columns of a tile")
    parser.add_argument("--sram", type=int, default=24, help="megabytes of SRAM macros")
    parser.add_argument("--cycles", type=int, default=10_000, help="0: do not compile")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--optimise", default="-O2", help="C++ optimisation")
    parser.add_argument("--split", type=int, default=100, help="statements a C++ function, 0: any")
    parser.add_argument("--inline", action="store_true", help="let Verilator inline the tiles")
    options = parser.parse_args()
    figures = {**{k: str(v) for k, v in vars(options).items()}, **measure(options)}
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name:20} {value:10.1f}")
    print("cycles/s             " + "  ".join(f"{s:,.0f}" for s in figures.get("cycles_per_s", [])))
    keep(figures, options.json)


if __name__ == "__main__":
    main()
