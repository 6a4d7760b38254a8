"""What the sections of a configuration have in common: their base, types of values, and limits."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "MAX_DIMENSION",
    "MAX_ITEMS",
    "MAX_STAGES",
    "Natural",
    "Positive",
    "Section",
    "power_of_two",
]

MAX_ITEMS = 16_384
MAX_STAGES = 4
MAX_DIMENSION = 512

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of the file: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def power_of_two(name: str, value: int) -> None:
    """Raise ValueError unless a value is a power of two."""
    if value & (value - 1):
        raise ValueError(f"{name} must be a power of two, not {value}")
