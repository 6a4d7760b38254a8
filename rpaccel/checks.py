"""What the compiler refuses: models that are not the configuration's, or too large to gather."""

from __future__ import annotations

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from sw_model.quantised import QuantisedModel

__all__ = ["check_gather", "check_model", "same"]


def same(what: str, value: object, expected: object) -> None:
    """Check that a value is the expected one.

    Raises
    ------
    ConfigError
        It is another one.
    """
    if value != expected:
        raise ConfigError(f"{what} must be {expected}, not {value}")


def check_model(config: Config, stage: int, model: QuantisedModel) -> None:
    """Check that a model has the shapes that the configuration gives a stage's model.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    expected, features = config.model(stage), config.features
    names = [t.name for t in features.tables]
    if [t.name for t in model.tables] != names:
        raise ConfigError(
            f"model {model.name!r} has tables {[t.name for t in model.tables]}, "
            f"the configuration has {names}"
        )
    for table, quantised in zip(features.tables, model.tables, strict=True):
        shape = (table.rows, expected.dimension(table.name))
        same(f"{model.name}.{table.name}: rows", quantised.rows.shape, shape)
        if not 0 <= quantised.shift <= 15:
            raise ConfigError(
                f"{model.name}.{table.name}: shift {quantised.shift} is outside 0..15"
            )
    joined = sum(expected.dimension(name) for name in names)
    joined += expected.bottom[-1] if expected.bottom else 0
    for part, widths, inputs, layers in (
        ("bottom", expected.bottom, features.dense, model.bottom),
        ("top", expected.top, joined, model.top),
    ):
        same(f"{model.name}.{part}: layers", len(layers), len(widths))
        for i, (layer, width) in enumerate(zip(layers, widths, strict=True)):
            where = f"{model.name}.{part}.{i}"
            same(f"{where}: weights", layer.weights.shape, (width, inputs))
            for name in ("bias", "mantissa", "shift"):
                same(f"{where}: {name}", getattr(layer, name).shape, (width,))
            same(f"{where}: logit", layer.logit, part == "top" and i == len(layers) - 1)
            inputs = width


def check_gather(config: Config, stage: int, model: QuantisedModel) -> None:
    """Check that a stage's gather unit takes the features and tables.

    Raises
    ------
    ConfigError
        Naming the limit that is exceeded.
    """
    features, gather = config.features, config.hardware.gather[stage]
    fields = len(features.tables) + bool(features.dense_query) + bool(features.dense_item)
    if fields > gather.max_fields:
        raise ConfigError(
            f"there are {fields} feature fields, but hardware.gather.{stage}.max_fields = "
            f"{gather.max_fields}"
        )
    for table in model.tables:
        if table.rows.shape[1] > gather.max_dimension:
            raise ConfigError(
                f"{model.name}.{table.name}: dimension {table.rows.shape[1]}, but "
                f"hardware.gather.{stage}.max_dimension = {gather.max_dimension}"
            )
