"""Payload layouts and signatures of the streams between units, made in one place."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import unit_counters
from rpaccel.hardware import HardwareConfig
from rpaccel.layout import Layout
from rpaccel.registers import REGISTER_SPACE_BITS
from rtl_gen.states import COUNTER_STEP_BITS, step_layout

__all__ = [
    "arriving_layout",
    "axi_lite_signature",
    "axi_read_signature",
    "axi_write_signature",
    "counter_layout",
    "fail_layout",
    "feature_port",
    "feature_write_signature",
    "group_input_signature",
    "host_client_signature",
    "load_bus_layout",
    "memory_client_signature",
    "plan_layout",
    "ranked_layout",
    "score_layout",
    "slot_bits",
    "slot_event_layout",
    "struct",
    "token_layout",
    "write_layout",
]


def struct(layout: Layout) -> data.StructLayout:
    """The gateware structure of an ABI layout (reserved bits as field ``reserved``)."""
    fields = {f.name: signed(f.bits) if f.signed else f.bits for f in layout}
    if layout.reserved_bits:
        fields["reserved"] = layout.reserved_bits
    return data.StructLayout(fields)


def slot_bits(hardware: HardwareConfig) -> int:
    """Width of a query slot number."""
    return max(1, (hardware.query_slots - 1).bit_length())


def token_layout(hardware: HardwareConfig) -> data.StructLayout:
    """One sub-batch on its way through a stage; ``base`` is its first position unless listed."""
    return data.StructLayout(
        {
            "slot": slot_bits(hardware),
            "first": 1,
            "last": 1,
            "items": abi.ITEM_BITS,
            "listed": 1,
            "base": abi.POSITION_BITS,
        }
    )


def plan_layout(hardware: HardwareConfig) -> data.StructLayout:
    """What a top-k unit does at the end of one token.

    ``candidates`` is how many there are in all tokens from one emission to the next.
    """
    return data.StructLayout(
        {
            "slot": slot_bits(hardware),
            "emit": 1,
            "final": 1,
            "count": abi.ITEM_BITS,
            "candidates": abi.ITEM_BITS,
        }
    )


def score_layout(hardware: HardwareConfig) -> data.StructLayout:
    """A scored item; ``keep`` is low on the only beat of a token without items."""
    return data.StructLayout(
        {
            "position": abi.POSITION_BITS,
            "score": signed(16),
            "keep": 1,
            "last": 1,
            "slot": slot_bits(hardware),
            "query_last": 1,
            "saturated": 1,
        }
    )


def ranked_layout(hardware: HardwareConfig) -> data.StructLayout:
    """A released candidate, best first; ``keep`` is low on the only beat of an empty release."""
    return data.StructLayout(
        {
            "position": abi.POSITION_BITS,
            "score": signed(16),
            "keep": 1,
            "last": 1,
            "slot": slot_bits(hardware),
        }
    )


def write_layout(width: int) -> data.StructLayout:
    """A write of up to ``width`` bytes of one item into a group's activation memory."""
    return data.StructLayout({"chunk": 16, "item": abi.ITEM_BITS, "mask": width, "data": 8 * width})


def group_input_signature(hardware: HardwareConfig, group: int) -> wiring.Signature:
    """A group's input port for one stage, seen from the gather unit (see architecture.md)."""
    start = data.StructLayout(
        {"slot": slot_bits(hardware), "first": 1, "last": 1, "items": abi.ITEM_BITS}
    )
    return wiring.Signature(
        {
            "start": Out(stream.Signature(start)),
            "write": Out(stream.Signature(write_layout(hardware.geometry(group).gather_bytes))),
            "item_valid": Out(1),
            "item_position": Out(abi.POSITION_BITS),
        }
    )


def arriving_layout(hardware: HardwareConfig) -> data.StructLayout:
    """A slot whose features are being copied, and how many words of them can be read."""
    words = hardware.feature_bytes // hardware.host_bus_bytes
    return data.StructLayout({"valid": 1, "slot": slot_bits(hardware), "words": range(words + 1)})


def feature_port(hardware: HardwareConfig) -> wiring.Signature:
    """A read port of the feature buffer, seen from the reader."""
    address_bits = (hardware.feature_bytes - 1).bit_length()
    return wiring.Signature(
        {
            "request": Out(
                stream.Signature(
                    data.StructLayout({"slot": slot_bits(hardware), "address": address_bits})
                )
            ),
            "response": In(stream.Signature(8 * hardware.feature_read)),
        }
    )


def fail_layout(hardware: HardwareConfig) -> data.StructLayout:
    """An event that fails a query: which slot and an ``abi.Status`` code."""
    return data.StructLayout({"slot": slot_bits(hardware), "status": 4})


def slot_event_layout(hardware: HardwareConfig) -> data.StructLayout:
    """A pulse to be counted for the query of a slot: at most one a cycle, no back-pressure."""
    return data.StructLayout({"valid": 1, "slot": slot_bits(hardware)})


def feature_write_signature(hardware: HardwareConfig) -> wiring.Signature:
    """The write port of the feature buffer, seen from the writer: a word a cycle, always taken."""
    words = hardware.feature_bytes // hardware.host_bus_bytes
    return wiring.Signature(
        {
            "valid": Out(1),
            "slot": Out(slot_bits(hardware)),
            "word": Out(max(1, (words - 1).bit_length())),
            "data": Out(8 * hardware.host_bus_bytes),
        }
    )


def host_client_signature(hardware: HardwareConfig) -> wiring.Signature:
    """The client of the host port, seen from the client.

    A request names an aligned address and a number of blocks, at least one. ``read_data`` brings
    the beats of the requests in order, ``last`` high on the last beat of each. ``write_data`` takes
    the beats of the requests in order; ``write_done`` answers each request once its responses are
    in. Nothing more is written before ``write_done`` is taken.
    """
    blocks = max(hardware.feature_bytes, 4 * max(hardware.topk_depth)) // abi.BLOCK_BYTES + 1
    request = data.StructLayout({"address": 64, "blocks": blocks.bit_length()})
    bus = 8 * hardware.host_bus_bytes
    read = data.StructLayout({"data": bus, "error": 1, "last": 1})
    return wiring.Signature(
        {
            "read_request": Out(stream.Signature(request)),
            "read_data": In(stream.Signature(read)),
            "write_request": Out(stream.Signature(request)),
            "write_data": Out(stream.Signature(bus)),
            "write_done": In(stream.Signature(data.StructLayout({"error": 1}))),
        }
    )


def counter_layout(hardware: HardwareConfig) -> data.StructLayout:
    """Increments of all counters, a structure a unit, named as by
    :func:`rpaccel.counters.counters_of`.

    ``device.cycles`` is missing: the registers count it themselves.
    """
    wide = max(COUNTER_STEP_BITS, hardware.macs.bit_length())
    units = {}
    for unit, table in unit_counters(hardware).items():
        fields = dict(step_layout(table).members)
        fields |= {"macs": wide} if "macs" in table else {}
        fields.pop("cycles", None)
        units[unit] = data.StructLayout(fields)
    return data.StructLayout(units)


def load_bus_layout(hardware: HardwareConfig) -> data.StructLayout:
    """The load bus; no back-pressure. ``first`` (without data) sets the word address."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "target": (hardware.group_room - 1).bit_length() + 3,
            "address": 32,
            "data": 8 * hardware.memory.bus_bytes,
        }
    )


LINE_BITS = 32
"""Width of a memory line number."""
TAG_BITS = 8
"""Width of a memory client's tag."""


def memory_client_signature(hardware: HardwareConfig) -> wiring.Signature:
    """A client of the memory ports, seen from the client."""
    memory = hardware.memory
    response = data.StructLayout(
        {
            "tag": TAG_BITS,
            "beat": max(1, (memory.beats - 1).bit_length()),
            "data": 8 * memory.bus_bytes,
            "error": 1,
            "last": 1,
        }
    )
    return wiring.Signature(
        {
            "request": Out(
                stream.Signature(data.StructLayout({"line": LINE_BITS, "tag": TAG_BITS}))
            ),
            "response_valid": In(1),
            "response": In(response),
        }
    )


def axi_read_signature(*, data_bytes: int, address_bits: int, id_bits: int) -> wiring.Signature:
    """AXI4 read channels, master side, flat names as on the wire (``araddr`` ...)."""
    return wiring.Signature(
        {
            "arid": Out(id_bits),
            "araddr": Out(address_bits),
            "arlen": Out(8),
            "arsize": Out(3),
            "arburst": Out(2),
            "arlock": Out(1),
            "arcache": Out(4),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rid": In(id_bits),
            "rdata": In(8 * data_bytes),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi_write_signature(*, data_bytes: int, address_bits: int, id_bits: int) -> wiring.Signature:
    """AXI4 write channels, master side, flat names as on the wire (``awaddr`` ...)."""
    return wiring.Signature(
        {
            "awid": Out(id_bits),
            "awaddr": Out(address_bits),
            "awlen": Out(8),
            "awsize": Out(3),
            "awburst": Out(2),
            "awlock": Out(1),
            "awcache": Out(4),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * data_bytes),
            "wstrb": Out(data_bytes),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(id_bits),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def axi_lite_signature() -> wiring.Signature:
    """AXI4-Lite, master side, 32-bit data."""
    return wiring.Signature(
        {
            "awaddr": Out(REGISTER_SPACE_BITS),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(REGISTER_SPACE_BITS),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )
