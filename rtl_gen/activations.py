"""The activation memory of one token: banks of blocks, read by K slice, written by N chunk."""

from math import gcd

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl_gen.ram import MACRO_BITS, Ram

__all__ = ["Place", "TokenBuffer"]


class Place:
    """Where slices or chunks of a width lie in an activation memory (docs/architecture.md).

    Parameters
    ----------
    width : int
        Bytes of a slice or chunk.
    block : int
        Bytes of a block, a divisor of ``width``.
    banks : int
        Banks, each a block wide.
    depth : int
        Words of a bank.
    """

    def __init__(self, *, width: int, block: int, banks: int, depth: int):
        self.blocks = width // block
        self.banks = banks
        # The highest number that can lie in the memory at all, and so the bits that matter.
        self.number_bits = ceil_log2(-(-depth * banks // self.blocks) + 1)

    def locate(self, number: Value) -> tuple[Value, Value]:
        """Bank and row (in items) of the first block of slice or chunk ``number``."""
        block = number[: self.number_bits] * self.blocks
        if self.banks & (self.banks - 1) == 0:
            bits = ceil_log2(self.banks)
            return block[:bits], block[bits:]
        return block % self.banks, block // self.banks


class TokenBuffer(wiring.Component):
    """Activations of one token: byte f of an item is in block f // U, banks side by side.

    A slice or chunk begins in any bank and goes on in the banks behind it, around to bank 0 and the
    next row. A read shows its slice one cycle later, until the next read. One read and one write a
    cycle; a read sees writes of earlier cycles.

    Parameters
    ----------
    k_width, n_width : int, positive
        Bytes of a slice and of a chunk.
    depth : int, positive
        Words of a bank.
    macro_bits : int
        See :class:`rtl_gen.ram.Ram`.

    Members
    -------
    read : In(en, bank, address, next_address)
        Bank of the first block, its address, and that of the next row.
    slice : Out(8 * k_width)
        What was read.
    write : In(en, bank, address, next_address, mask, data)
        ``mask`` has a bit for each byte.
    """

    def __init__(self, *, k_width: int, n_width: int, depth: int, macro_bits: int = MACRO_BITS):
        self.block = gcd(k_width, n_width)
        self.banks = max(k_width, n_width) // self.block
        self.k_width = k_width
        self.n_width = n_width
        self.depth = depth
        self.macro_bits = macro_bits
        self.module_name = f"token_buffer_{k_width}_{n_width}_{depth}_{macro_bits}"
        address = ceil_log2(depth)
        at = {
            "en": 1,
            "bank": ceil_log2(self.banks),
            "address": address,
            "next_address": address,
        }
        super().__init__(
            {
                "read": In(data.StructLayout(at)),
                "slice": Out(8 * k_width),
                "write": In(data.StructLayout({**at, "mask": n_width, "data": 8 * n_width})),
            }
        )

    def place(self, width: int) -> Place:
        """Where slices (``k_width``) or chunks (``n_width``) lie."""
        return Place(width=width, block=self.block, banks=self.banks, depth=self.depth)

    def elaborate(self, platform):
        m = Module()
        bits = 8 * self.block
        bank_read = Signal(ceil_log2(self.banks))  # of the slice that is shown
        with m.If(self.read.en):
            m.d.sync += bank_read.eq(self.read.bank)

        mask = self._spread(self.write.mask, self.block)
        chunk = self._spread(self.write.data, bits)
        words = []
        for bank in range(self.banks):
            ram = Ram(width=bits, depth=self.depth, granularity=8, macro_bits=self.macro_bits)
            m.submodules[f"bank_{bank}"] = ram
            m.d.comb += [
                ram.read.en.eq(self.read.en),
                ram.read.addr.eq(self._row(self.read, bank)),
                ram.write.addr.eq(self._row(self.write, bank)),
                ram.write.data.eq(self._rotated(chunk, bits, bank)),
            ]
            with m.If(self.write.en):
                m.d.comb += ram.write.en.eq(self._rotated(mask, self.block, bank))
            words.append(ram.read.data)

        blocks = self.k_width // self.block
        shown = [words[first:] + words[:first] for first in range(self.banks)]
        m.d.comb += self.slice.eq(
            self._choose(bank_read, [Cat(*order[:blocks]) for order in shown])
        )
        return m

    def _row(self, port, bank):
        """Address in a bank: banks before the first block hold blocks of the next row."""
        return Mux(port.bank > bank, port.next_address, port.address)

    def _spread(self, chunk, bits):
        """Blocks of a chunk as a list of as many as there are banks."""
        blocks = self.n_width // self.block
        return [chunk.word_select(i, bits) if i < blocks else 0 for i in range(self.banks)]

    def _rotated(self, blocks, bits, bank):
        """What bank ``bank`` gets: block ``bank - first`` of the chunk."""
        options = [blocks[(bank - first) % self.banks] for first in range(self.banks)]
        return self._choose(self.write.bank, options)

    def _choose(self, select, options):
        chosen = options[-1]
        for number in reversed(range(len(options) - 1)):
            chosen = Mux(select == number, options[number], chosen)
        return chosen
