"""Packed structures that host and device exchange: gateware makes its own from :class:`Layout`, the
host packs and unpacks with the same objects.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Field", "Layout"]


@dataclass(frozen=True)
class Field:
    """One field of a layout: name, width in bits, two's complement or not, meaning."""

    name: str
    bits: int
    doc: str = ""
    signed: bool = False


class Layout:
    """A packed little-endian structure, first field in the lowest bits.

    Parameters
    ----------
    name : str
    bits : int
        Total width, a multiple of 8; bits behind the last field are reserved and zero.
    fields : Field
    """

    def __init__(self, name: str, bits: int, *fields: Field) -> None:
        self.name = name
        self.bits = bits
        self.fields = fields
        used = sum(f.bits for f in fields)
        if bits % 8 or used > bits:
            raise ValueError(f"Layout {name} has {used} bits of fields in {bits} bits")
        self.reserved_bits = bits - used

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.bits // 8

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def offset(self, name: str) -> int:
        """Bit offset of a field."""
        at = 0
        for field in self.fields:
            if field.name == name:
                return at
            at += field.bits
        raise KeyError(name)

    def pack_int(self, values: Mapping[str, int]) -> int:
        """Pack values into an integer; fields not named are zero.

        Raises
        ------
        KeyError
            A value names no field.
        ValueError
            A value does not fit its field.
        """
        unknown = set(values) - {f.name for f in self.fields}
        if unknown:
            raise KeyError(f"{self.name} has no field {sorted(unknown)}")
        word = at = 0
        for field in self.fields:
            value = int(values.get(field.name, 0))
            low = -(1 << field.bits - 1) if field.signed else 0
            high = (1 << field.bits - field.signed) - 1
            if not low <= value <= high:
                raise ValueError(f"{self.name}.{field.name} takes {low}..{high}, not {value}")
            word |= (value & (1 << field.bits) - 1) << at
            at += field.bits
        return word

    def pack(self, **values: int) -> builtins.bytes:
        """Pack values into bytes; see :meth:`pack_int`."""
        return self.pack_int(values).to_bytes(self.bytes, "little")

    def unpack(self, data: builtins.bytes | int) -> dict[str, int]:
        """Take a packed structure apart, reserved bits as ``"reserved"``."""
        word = data if isinstance(data, int) else int.from_bytes(data[: self.bytes], "little")
        values = {}
        for field in self.fields:
            value = word & (1 << field.bits) - 1
            if field.signed and value >> field.bits - 1:
                value -= 1 << field.bits
            values[field.name] = value
            word >>= field.bits
        values["reserved"] = word & (1 << self.reserved_bits) - 1
        return values
