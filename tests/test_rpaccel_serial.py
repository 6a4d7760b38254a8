"""The host's side of the serial protocol, against the golden bridge over lines of every kind."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rpaccel import serial, serial_protocol
from rpaccel.cli import app
from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.driver import Device
from rpaccel.errors import DeviceError
from rpaccel.serial import Frames, SerialTransport, frame, open_port
from rpaccel.serial_protocol import HELLO, REPLY, REQUEST, Operation, ReplyStatus
from rpaccel.workflow import Workflow
from sim.noisy_line import NoisyLine
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query
from tests.board_lines import BoardLine, Terminal, golden_board

HERE = Path(__file__).parent


@given(st.lists(st.binary(min_size=1, max_size=40)), st.binary(max_size=30))
def test_frames_come_out_of_what_they_were_put_in(contents, noise):
    stream = noise.replace(b"\x7e", b"") + b"".join(map(frame, contents))
    assert list(Frames().feed(stream)) == contents
    frames = Frames()
    assert [c for byte in stream for c in frames.feed(bytes((byte,)))] == contents


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=40))
def test_frames_are_in_step_again_after_noise(noise, content):
    assert list(Frames().feed(noise + frame(content)))[-1] == content


def test_frames_keep_little_of_endless_noise():
    frames = Frames()
    assert not list(frames.feed(b"\x7e"))
    for _ in range(100):
        assert not list(frames.feed(bytes(1000)))
        assert frames._raw is None or len(frames._raw) <= serial.LONGEST_FRAME
    assert list(frames.feed(frame(b"x"))) == [b"x"]


def test_operations():
    line = BoardLine()
    transport = SerialTransport(line)
    assert (transport.host_bytes, transport.memory_bytes) == (4096, 2048)
    data = bytes(np.random.default_rng(0).integers(0, 256, 2500, dtype=np.uint8))
    transport.host_write(77, data)
    assert transport.host_read(77, len(data)) == data == bytes(line.board.host[77 : 77 + 2500])
    transport.load_memory(0, data[:2048])
    assert transport.memory_read(1, 2047) == data[1:2048]
    transport.write32(0x10, 0xFFFFFFFF)
    assert transport.read32(0x10) == 0xFFFFFFFF
    assert transport.host_read(0, 0) == b""
    assert transport.repeated == 0
    with pytest.raises(DeviceError, match="2000 bytes from 0x64 on, .* memory has 2048"):
        transport.load_memory(100, bytes(2000))
    with pytest.raises(DeviceError, match="the board refuses: BAD_ADDRESS"):
        transport.host_read(4090, 8)
    transport.close()
    transport.close()
    with pytest.raises(DeviceError, match="closed"):
        transport.read32(0)


def test_waiting():
    up = iter([False] * 5 + [True] * 3)
    line = BoardLine(irq=lambda: next(up))
    transport = SerialTransport(line)
    assert transport.wait(10_000_000)
    assert line.time < 0.01
    line.parameters["irq"] = lambda: False
    line.reset()
    transport = SerialTransport(line)
    before = line.time
    assert not transport.wait(25_000)
    assert 0.001 <= line.time - before < 0.002


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([0.001, 0.01, 0.03]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["host", "memory", "register", "read", "cut"]),
            st.integers(0, 1900),
            st.binary(min_size=1, max_size=140),
        ),
        max_size=30,
    ),
)
def test_under_fire_an_operation_is_done_once_or_an_error(seed, rate, steps):
    """What was said to be done is done, and what failed is done once, not at all, or an error."""
    line = BoardLine()
    noisy = NoisyLine(line, random.Random(seed), 0.0)
    transport = SerialTransport(noisy)
    noisy.rate = rate
    contents = {"host": bytearray(4096), "memory": bytearray(2048)}
    rung = []
    for kind, at, data in steps:
        before, began = bytes(contents.get(kind, b"")), line.time
        bell = (4 * at % 4096, data[0])
        try:
            if kind == "cut":
                noisy.cut = not noisy.cut
            elif kind == "read":
                assert transport.host_read(at, len(data)) == contents["host"][at : at + len(data)]
                assert transport.memory_read(at, 10) == contents["memory"][at : at + 10]
            elif kind == "register":
                transport.write32(*bell)
                rung.append(bell)
            else:
                contents[kind][at : at + len(data)] = data
                (transport.host_write if kind == "host" else transport.load_memory)(at, data)
        except DeviceError:  # done or not, but nothing else
            if kind == "register" and line.writes == [*rung, bell]:
                rung.append(bell)
            elif kind in contents and getattr(line.board, kind) == before:
                contents[kind][:] = before
        assert line.time - began < 25  # seconds
        assert line.board.host == contents["host"]
        assert line.board.memory == contents["memory"]
        assert line.writes == rung


def test_a_dead_line_is_an_error_soon():
    line = BoardLine()
    noisy = NoisyLine(line, random.Random(1), 0.0)
    transport = SerialTransport(noisy)
    noisy.cut = True
    before = line.time
    with pytest.raises(DeviceError, match=r"does not answer READ_HOST at 0x40: 8 tries"):
        transport.host_read(64, 64)
    assert 1 < line.time - before < 4
    noisy.cut = False
    assert transport.host_read(64, 4) == bytes(4)
    noisy.cut = True
    with pytest.raises(DeviceError, match="does not answer HELLO"):
        SerialTransport(noisy)
    assert line.closed == 1


def test_a_line_that_babbles_does_not_hang_us():
    line = BoardLine()
    transport = SerialTransport(line)
    line.read = lambda seconds: (setattr(line, "time", line.time + 1e-3), b"\x00~\x7d" * 300)[1]
    with pytest.raises(DeviceError, match="does not answer POLL"):
        transport.wait(1)


def test_a_looped_line_is_no_board():
    line = BoardLine()
    line.write = lambda data: line.came.extend(data)
    with pytest.raises(DeviceError, match="does not answer HELLO"):
        SerialTransport(line)


def test_a_board_that_was_reset_is_an_error():
    line = BoardLine()
    transport = SerialTransport(line)
    transport.host_write(0, b"data")
    line.reset()
    with pytest.raises(DeviceError, match="reset and has lost what was loaded"):
        transport.host_read(0, 4)
    with pytest.raises(DeviceError, match="reset and has lost what was loaded"):
        transport.host_read(0, 4)
    assert transport.host_read(0, 4) == bytes(4)  # the caller has been told


def test_a_reset_behind_a_dead_line_is_told():
    line = BoardLine()
    noisy = NoisyLine(line, random.Random(1), 0.0)
    transport = SerialTransport(noisy)
    noisy.cut = True
    with pytest.raises(DeviceError, match="does not answer"):
        transport.write32(0, 1)
    line.reset()
    noisy.cut = False
    with pytest.raises(DeviceError, match="reset and has lost what was loaded"):
        transport.host_read(0, 4)


def test_an_interrupted_request_does_not_confuse_the_next():
    line = BoardLine()
    transport = SerialTransport(line)
    read, line.read = line.read, lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        transport.write32(8, 3)
    line.read = read
    assert transport.read32(8) == 3  # its late reply was dropped
    assert line.writes == [(8, 3)]


def test_strange_boards():
    def with_reply(change):
        line = BoardLine()
        serve = line.board._serve
        line.board._serve = lambda content: change(serve(content))
        return line

    with pytest.raises(DeviceError, match="speaks version 9 of the serial protocol"):
        SerialTransport(with_reply(lambda r: r[:10] + bytes((9,)) + r[11:]))
    with pytest.raises(DeviceError, match="the board sent 23 bytes, not 24"):
        SerialTransport(with_reply(lambda r: r[:-1]))
    with pytest.raises(DeviceError, match="answers for another session"):
        SerialTransport(with_reply(lambda r: r[:2] + bytes(4) + r[6:]))
    with pytest.raises(DeviceError, match="the board refuses: status 63"):
        SerialTransport(with_reply(lambda r: bytes((0xBF, r[1]))))


@pytest.mark.parametrize(
    ("name", "text"),
    [("/dev/no-such-port", "cannot be opened"), ("/dev/null@fast", "'fast' is no number of bits")],
)
def test_ports_that_cannot_be_opened(name, text):
    with pytest.raises(DeviceError, match=text):
        open_port(name, 1_000_000)


def test_a_port_of_pyserial():
    port = open_port("loop://@9600", 1_000_000)
    assert port.baud == 9600
    port.write(b"hello")
    got = b""
    while len(got) < 5:
        got += port.read(1.0)
    assert got == b"hello"
    before = port.now()
    assert port.read(0.01) == b""
    assert port.now() - before >= 0.009
    port.close()


@pytest.mark.parametrize("passed", [3, 80, 700, 2200, 3800, None])
def test_a_port_that_is_unplugged_in_a_transfer(passed):
    """Before the session, in a write's request, between requests, in a read's reply."""
    line = BoardLine()
    terminal = Terminal(line.board, passed or 1 << 30)
    data = bytes(np.random.default_rng(0).integers(0, 256, 2000, dtype=np.uint8))

    def transfer():
        transport = SerialTransport(open_port(terminal.name, 1_000_000))
        try:
            transport.load_memory(0, data)
            for _ in range(40):
                transport.read32(0)
            return transport.memory_read(0, len(data))
        finally:
            transport.close()

    if passed is None:
        assert transfer() == data
    else:
        with pytest.raises(DeviceError, match="the serial line is gone"):
            transfer()
        # Requests that had arrived whole, and nothing of others.
        done = {3: 0, 80: 0, 700: 0}.get(passed, len(data))
        assert bytes(line.board.memory[: len(data)]) == data[:done].ljust(len(data), b"\0")
    terminal.end()


def test_queries_through_the_driver_under_fire():
    """The real driver on a golden device behind a bridge behind a bad line."""
    config = load(HERE / "tiny.toml")
    rng = np.random.default_rng(3)
    models = random_models(config, rng)
    image = compile_image(config, models)
    line = golden_board(config, models)
    noisy = NoisyLine(line, random.Random(5), 0.0005)
    transport = SerialTransport(noisy)
    with Device(transport, config, image) as device:
        queries = [random_query(config.features, 24, rng) for _ in range(3)]
        handles = device.run(queries)
        for query, handle in zip(queries, handles, strict=True):
            expected = rank(models, config.features, query, keep=[10, 4], sub_batch=8)
            assert (handle.result().positions == expected.positions).all()
            assert (handle.result().scores == expected.scores).all()
    assert transport.repeated > 5
    assert noisy.damages > 10
    assert bytes(line.board.memory[: len(image.data)]) == image.data


def test_the_command_runs_queries_on_a_board(tmp_path, monkeypatch):
    opened = []

    def open_golden(name, baud):
        opened.append((name, baud))
        return golden_board(work.config, work.quantised)

    work = Workflow(load(HERE / "tiny.toml"))
    monkeypatch.setattr(serial, "open_port", open_golden)
    arguments = ["run", str(HERE / "tiny.toml"), "--device", "serial:/dev/ttyUSB7", "--json"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["device"], report["compared"]) == ("serial:/dev/ttyUSB7", 12)
    assert opened == [("/dev/ttyUSB7", 1_000_000)]


def test_the_command_when_the_board_is_unplugged(tmp_path):
    work = Workflow(load(HERE / "tiny.toml"))
    board = golden_board(work.config, work.quantised).board
    terminal = Terminal(board, len(work.image.data) + 2000)
    device = f"serial:{terminal.name}"
    arguments = ["run", str(HERE / "tiny.toml"), "--device", device, "-o", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    terminal.end()
    assert result.exit_code == 5
    assert "rpaccel: error: the serial line is gone" in result.stderr


def test_the_document_has_every_number():
    text = (HERE.parent / "docs" / "serial.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in text.splitlines()]
    for operation in Operation:
        names = next(
            r for r in rows if len(r) > 2 and operation.name in r[1].replace("`", "").split(", ")
        )
        at = names[1].replace("`", "").split(", ").index(operation.name)
        assert int(names[2].split(", ")[at], 16) == operation
    for status in ReplyStatus:
        assert [status.name, str(int(status))] in [r[1:3] for r in rows]
    for layout, column in (REQUEST, 1), (REPLY, 4):
        for field in layout:
            at = layout.offset(field.name)
            bits = f"{at + field.bits - 1}:{at}" if field.bits > 1 else str(at)
            assert [field.name, bits] in [r[column : column + 2] for r in rows]
    words = text[text.index("answered with six 32-bit words") :]
    assert [f.bits for f in HELLO] == [32] * 6
    assert f"version of this protocol ({serial_protocol.PROTOCOL_VERSION})" in words
