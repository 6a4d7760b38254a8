"""Small machines for unit tests."""

from typing import Any

from rpaccel.hardware import HardwareConfig

__all__ = ["small_hardware"]


def small_hardware(stages: int = 2, **changes: Any) -> HardwareConfig:
    """Make a machine of one group with the given number of stages; ``changes`` are its fields."""
    values: dict[str, Any] = {
        "tile_rows": 4,
        "tile_cols": 4,
        "groups": [{"stages": list(range(stages))}],
        "gather": [{"cache_lines": 4}] * stages,
        "topk_depth": [64] * stages,
        "feature_bytes": 1024,
        "query_slots": 2,
        "host_bus_bytes": 16,
    }
    return HardwareConfig.model_validate(values | changes)
