"""The arrays of a run under one pointer, so that compiled functions pass a machine cheaply.

Numba passes each array of a tuple as seven values; a machine has some forty arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numpy.typing import NDArray

__all__ = ["Machine"]


class Machine:
    """Arrays by name, seen as attributes by compiled functions. They must be C-contiguous.

    ``clock`` has one record: ``now``, ``moved`` (something changed in this cycle), ``wake`` (next
    cycle in which something can change by itself), ``skip`` (cycles without a change are skipped)
    and ``active`` (cycles with a query in flight).

    Arrays have a record for each unit of a kind, or for each of what they are named after:

    - ``cause``: state of each unit in this cycle, as its place among the unit's states;
    - ``due``, (2, 1024): reads and writes that the host is to answer;
    - ``order``: steps of the plans in the order of each stage's filter;
    - ``position``: positions of the items of all tokens;
    - ``piece``, (steps, lanes + 1): lookups of each lane's piece; whether the dense lane has one;
    - ``makes``, ``segment``, ``missed``: see :class:`sw_model.cycles.access.LaneAccess`;
    - ``arrived``, (lanes, lookahead): cycle in which a line was there, by miss;
    - ``freed``, (lanes, outstanding): cycles in which memory tags come back;
    - ``word``, ``part``: what a lane makes of an item, and its pieces that lie in one chunk;
    - ``burst``, ``bank``: by channel; ``row``: rows of items in the array, by group;
    - ``input``: one a stage of a group; ``scores``: rows of scores of each;
    - ``command``: one a pass; ``release``: by stage.
    """

    def __init__(self, **arrays: NDArray[Any]) -> None:
        self._arrays = arrays
        table: list[int] = []
        for array in arrays.values():
            assert array.flags.c_contiguous
            table += [array.ctypes.data, array.size, array.itemsize, *array.shape, *array.strides]
        self._table = np.array(table, np.int64)
        self.address = self._table.ctypes.data

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_arrays"][name]
        except KeyError:
            raise AttributeError(name) from None


class _MachineType(types.Type):
    """Types of the arrays, in their order."""

    def __init__(self, fields: tuple[tuple[str, Any], ...]) -> None:
        self.fields = dict(fields)
        super().__init__(name=f"Machine({fields})")


register_model(_MachineType)(models.OpaqueModel)


@typeof_impl.register(Machine)
def _typeof(value: Machine, context: Any) -> Any:
    return _MachineType(tuple((name, typeof(array)) for name, array in value._arrays.items()))


@unbox(_MachineType)
def _unbox(typ: Any, value: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(value, "address")
    pointer = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(pointer)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = _MachineType

    def generic_resolve(self, typ: Any, attr: str) -> Any:
        return typ.fields.get(attr)


@lower_getattr_generic(_MachineType)
def _getattr(context: Any, builder: Any, typ: Any, value: Any, attr: str) -> Any:
    first = 0
    for name, each in typ.fields.items():
        if name == attr:
            break
        first += 3 + 2 * each.ndim
    wide = context.get_value_type(types.int64)
    words = builder.bitcast(value, wide.as_pointer())

    def word(number: int) -> Any:
        return builder.load(builder.gep(words, [wide(first + number)]))

    array = context.make_array(each)(context, builder)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    array.parent = cgutils.get_null_value(array.parent.type)
    array.data = builder.inttoptr(word(0), array.data.type)
    array.nitems, array.itemsize = word(1), word(2)
    sizes = [word(3 + n) for n in range(2 * each.ndim)]
    array.shape = cgutils.pack_array(builder, sizes[: each.ndim])
    array.strides = cgutils.pack_array(builder, sizes[each.ndim :])
    return array._getvalue()
