"""The FIELD words of a lane, read by several of its parts at the same time."""

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.image_layout import FIELD
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.ram import Ram
from rtl_gen.signatures import struct

__all__ = ["FieldTable", "field_port", "fill_port"]


def fill_port(width: int, depth: int) -> wiring.Signature:
    """A write port that the image fills a memory by, seen from the writer."""
    return wiring.Signature({"en": Out(1), "addr": Out(ceil_log2(depth)), "data": Out(width)})


def field_port(shape: GatherShape, names: Sequence[str]) -> wiring.Signature:
    """A read port for some members of FIELD, seen from the reader.

    ``data`` follows one cycle after ``en`` and holds until the next ``en``.
    """
    members = {f.name: f.bits for f in FIELD if f.name in names}
    return wiring.Signature(
        {"en": Out(1), "index": Out(shape.field_bits), "data": In(data.StructLayout(members))}
    )


class FieldTable(wiring.Component):
    """FIELD words of a lane; each port reads the members it wants from its own copy.

    Parameters
    ----------
    shape : GatherShape
    ports : mapping of str to sequence of str
        The members of FIELD that each port reads.

    Members
    -------
    write : In(fill_port)
    NAME : In(field_port(shape, members))
        One for each of ``ports``.
    """

    def __init__(self, shape: GatherShape, ports: Mapping[str, Sequence[str]]):
        self.shape = shape
        self.ports = {name: field_port(shape, members) for name, members in ports.items()}
        super().__init__(
            {
                "write": In(fill_port(FIELD.bits, shape.max_fields)),
                **{name: In(signature) for name, signature in self.ports.items()},
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        word = data.View(struct(FIELD), self.write.data)
        for name, signature in self.ports.items():
            port = getattr(self, name)
            members = signature.members["data"].shape
            m.submodules[name] = ram = Ram(
                width=members.size, depth=shape.max_fields, macro_bits=shape.macro_bits
            )
            m.d.comb += [
                ram.write.en.eq(self.write.en),
                ram.write.addr.eq(self.write.addr),
                ram.write.data.eq(Cat(word[member] for member, _ in members)),
                ram.read.en.eq(port.en),
                ram.read.addr.eq(port.index),
                port.data.eq(ram.read.data),
            ]
        return m
