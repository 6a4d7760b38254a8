"""What simulators must be told about Verilog text: its ports, and what cocotb may see."""

import re
from collections.abc import Mapping, Sequence

from rpaccel.errors import BuildError
from rtl_gen.ram import MACRO_NAME

__all__ = ["control_file", "port_names", "start_blocks"]

_MODULE = re.compile(r"^module\s+\\?([^\s(#;]+).*?^endmodule", re.MULTILINE | re.DOTALL)
_INPUT = re.compile(r"\binput\s+(?:wire\s+)?(?:\[[^\]]*\]\s*)?(\\\S+|\w+)")
_APART = "/* verilator no_inline_module */"


def port_names(text: str, module: str) -> list[str]:
    """Names of the ports of a module in Verilog text, in order.

    Raises
    ------
    BuildError
        The text has no such module.
    """
    text = re.sub(r"//[^\n]*|/\*.*?\*/|\(\*.*?\*\)", " ", text, flags=re.DOTALL)
    header = re.search(rf"\bmodule\s+{re.escape(module)}\b\s*", text)
    if header is None:
        raise BuildError(f"no module {module} in the Verilog sources")
    rest = text[header.end() :]
    if rest.startswith("#"):
        rest = rest[len(_parenthesised(rest)) + rest.index("(") :].lstrip()
    if not rest.startswith("("):
        return []
    ports = re.sub(r"\[[^\]]*\]", " ", _parenthesised(rest)[1:-1])
    return [words[-1] for entry in ports.split(",") if (words := re.findall(r"[\w$]+", entry))]


def _parenthesised(text: str) -> str:
    """Return the first parenthesis of a text with everything in it."""
    depth = 0
    start = text.index("(")
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return text[start : position + 1]
    raise BuildError("a parenthesis of the Verilog sources is never closed")


def control_file(
    sources: Mapping[str, str],
    toplevel: str,
    public: Mapping[str, Sequence[str]],
    *,
    apart: bool,
) -> str:
    """Verilator control file: cocotb sees the ports of the top level and what is named, no more.

    With ``apart``, modules that are written once, and SRAM macros, read their inputs from signals
    of their own, which Verilator keeps because they are readable from outside: only so is a
    module's code the same in all instances, and compiled once. Clock and reset are the same anyway.
    """
    text = "\n".join(sources.values())
    lines = ["`verilator_config"]
    for module, names in {toplevel: port_names(text, toplevel), **public}.items():
        lines += [f'public_flat_rw -module "{module}" -var "{name}"' for name in names]
    for found in _MODULE.finditer(text) if apart else ():
        body, module = found.group(0, 1)
        if _APART in body or module == MACRO_NAME:
            names = [name.lstrip("\\") for name in _INPUT.findall(body)]
            names = [name for name in names if name not in ("clk", "rst")]
            lines.append(f'no_inline -module "{module}"')
            lines += [f'public_flat_rd -module "{module}" -var "{name}"' for name in names]
    return "\n".join(lines) + "\n"


_HEADER = re.compile(r"^module [^;]*;$", re.MULTILINE)
_BLOCK = re.compile(r"always @\* begin$", re.MULTILINE)
_STATEMENT = re.compile(r"always @\*$([^;]*;)", re.MULTILINE)
_START = "reg rpaccel_start; initial begin rpaccel_start = 1; #0 rpaccel_start = 0; end"
_SEEN = "if (rpaccel_start) begin end"


def start_blocks(text: str) -> str:
    """Make every combinational block of Yosys' Verilog run once at time 0.

    An ``always @*`` block runs when something that it reads changes, so one whose inputs are
    constant from the start never runs. Yosys lets most blocks read a register with an initial
    value, but Icarus sets that before the blocks wait for it. Here it changes after they do.
    """
    text = _HEADER.sub(rf"\g<0>\n  {_START}", text)
    text = _STATEMENT.sub(rf"always @* begin {_SEEN}\1 end", text)
    return _BLOCK.sub(rf"\g<0> {_SEEN}", text)
