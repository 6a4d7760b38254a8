"""Writing Verilog, with components that occur many times written once."""

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Elaboratable, Instance, ResetSignal, Value
from amaranth.lib.wiring import Component, In, Out

from rtl_gen.ram import MACRO_MODEL, MACRO_NAME
from rtl_gen.static_region import STATIC_MODEL, STATIC_NAME

__all__ = ["emit", "share"]


_INITIAL = re.compile(r"(?m)^  initial begin\n((?:    memory\[\d+\] = [^;]*;\n){9,})  end\n")
_WORD = re.compile(r"memory\[(\d+)\] = ([^;]*);")

#: Bits of an instance's outputs that Amaranth has numbers for.
OUTPUTS = 1 << 16
#: No source locations, no attributes: the text depends on the design only.
STYLE = {"emit_src": False, "strip_internal_attrs": True}


class _Emitter:
    """The platform that designs are elaborated for when Verilog is written: collects modules."""

    def __init__(self):
        self.components: dict[str, Component] = {}

    def instance(self, component: Component) -> Instance:
        self.components.setdefault(component.module_name, component)
        # Only the first of its name is elaborated; Amaranth need not warn of the others.
        component._MustUse__silence = True
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in component.signature.flatten(component):
            direction = "i" if member.flow == In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = value
        return Instance(component.module_name, **ports)


def share(component: Component, platform: object) -> Elaboratable:
    """Make a component one submodule of many alike, to be written to Verilog only once.

    Amaranth writes every submodule as a module of its own. A component that is passed through this
    function becomes an instance, by name, of a module that :func:`emit` writes once; Verilator
    then compiles it once too. In Amaranth's simulator the component stays what it is, and so it
    does with as many outputs as Amaranth cannot number.

    Parameters
    ----------
    component : Component
        With an attribute ``module_name`` that names all of its parameters, and clocked by ``sync``.
    platform : object
        What ``elaborate`` was given.

    Returns
    -------
    Elaboratable
        To be added to the parent's submodules. The ports are those of ``component`` either way.
    """
    if not isinstance(platform, _Emitter) or _outputs(component) > OUTPUTS:
        return component
    return platform.instance(component)


def _outputs(component: Component) -> int:
    """Bits of a component's outputs."""
    ports = component.signature.flatten(component)
    return sum(len(Value.cast(value)) for _, member, value in ports if member.flow == Out)


def _apart(text: str, module: str) -> str:
    """Tell Verilator to compile a module once, however many instances there are."""
    at = text.index(";", text.index(f"\nmodule {module}(")) + 1
    return f"{text[:at]}\n  /* verilator no_inline_module */{text[at:]}"


def _filled(block: re.Match) -> str:
    """Write a memory's initial words as a loop if they are all equal: Yosys writes each."""
    words = _WORD.findall(block[1])
    value = words[0][1]
    if words != [(str(number), value) for number in range(len(words))]:
        return block[0]
    return (
        "  integer memory_word;\n"
        "  initial begin\n"
        f"    for (memory_word = 0; memory_word < {len(words)}; memory_word = memory_word + 1)\n"
        f"      memory[memory_word] = {value};\n"
        "  end\n"
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage: Amaranth makes millions of objects, and looking through them again and again
    takes as long as the rest.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _converted(component: Component, name: str, emitter: _Emitter) -> str:
    text = verilog.convert(component, name=name, platform=emitter, **STYLE)
    return _INITIAL.sub(_filled, text)


@_uncollected()
def emit(top: Component, name: str) -> tuple[Mapping[str, str], list[str]]:
    """Write a design to Verilog.

    Parameters
    ----------
    top : Component
    name : str
        Name of the top module.

    Returns
    -------
    files : mapping of file name to Verilog text
        ``<name>.v`` and the models of the SRAM macros.
    shared : list of str
        Modules that may have many instances; marked so that Verilator does not inline them.
    """
    emitter = _Emitter()
    texts = [_converted(top, name, emitter)]
    done: list[str] = []
    while len(done) < len(emitter.components):
        module = next(n for n in emitter.components if n not in done)
        done.append(module)
        component = emitter.components[module]
        texts.append(_apart(_converted(component, module, emitter), module))
    models = {MACRO_NAME: MACRO_MODEL, STATIC_NAME: STATIC_MODEL}
    files = {f"{name}.v": "\n".join(texts)}
    return files | {f"{n}.v": model.read_text() for n, model in models.items()}, done
