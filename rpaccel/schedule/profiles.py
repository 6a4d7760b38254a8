"""Profiles: a file of service times of models on a platform, and how they are known."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from rpaccel.config import validate
from rpaccel.errors import ConfigError
from rpaccel.section import Positive, Section

__all__ = ["SHIPPED", "Kind", "Point", "Profile", "machine", "read_json", "shipped"]

SHIPPED = Path(__file__).parents[1] / "data"
"""Where profiles and tables of quality are that come with the package."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Kind = Literal["measured", "simulated", "modelled", "derived"]
"""Timed on the machine named; cycles of its RTL; of a model of it; from published figures."""

S = TypeVar("S", bound=Section)


class Point(Section):
    """Seconds for which a query of so many items holds one unit of the platform."""

    model: str
    items: Positive
    seconds: Seconds


class Profile(Section):
    """Service times of a platform: units (cores) that each serve one query at a time, alone.

    ``handover`` is a delay, in seconds, of queries that go on to another platform from here.
    """

    name: str
    kind: Kind
    machine: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    units: Positive
    handover: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    notes: list[str] = []
    points: Annotated[list[Point], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> Profile:
        seen = set()
        for point in self.points:
            key = point.model, point.items
            if key in seen:
                raise ValueError(f"points: {point.model} on {point.items} items is there twice")
            seen.add(key)
        return self

    @classmethod
    def load(cls, name: str) -> Profile:
        """Read a profile.

        Parameters
        ----------
        name : str
            A file (``.json``), or a reference platform that comes with the package.

        Raises
        ------
        ConfigError
            It cannot be read, is no profile, or no such platform comes with the package.
        """
        return read_json(cls, name, "profiles")

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        path.write_text(json.dumps(self.model_dump(), indent=1) + "\n")


def shipped(folder: str) -> list[str]:
    """Names of what comes with the package."""
    return sorted(path.stem for path in (SHIPPED / folder).glob("*.json"))


def read_json(schema: type[S], name: str, folder: str) -> S:
    """Read a JSON file, or one that comes with the package, and validate it.

    Parameters
    ----------
    schema : type of Section
    name : str
        A file name ends in ``.json``.
    folder : str
        Of :data:`SHIPPED`, for other names.
    """
    path = Path(name)
    if path.suffix != ".json":
        path = SHIPPED / folder / f"{name}.json"
        if name not in shipped(folder):
            raise ConfigError(
                f"{name!r} is not among the {folder} that come with the package "
                f"({', '.join(shipped(folder))}), and a file's name ends in .json"
            )
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    return validate(schema, values, origin=str(path))


def machine() -> str:
    """Identity of this computer: processor, cores, system, Python."""
    name = platform.processor() or platform.machine()
    cores = 0
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                cores += 1
    except OSError:  # not Linux: the name above will do
        pass
    count = f"{cores} threads, " if cores else ""
    return f"{name}, {count}{platform.system()} {platform.release()}, Python " + (
        platform.python_version()
    )
