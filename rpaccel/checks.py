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
        shape = (table.rows, expected.row_elements(table.name))
        same(f"{model.name}.{table.name}: rows", quantised.rows.shape, shape)
        if not 0 <= quantised.shift <= 15:
            raise ConfigError(
                f"{model.name}.{table.name}: shift {quantised.shift} is outside 0..15"
            )
    if expected.interaction == "dot":
        raise ConfigError(f"model {model.name!r}: the machine has no dot interaction yet")
    product = model.product
    found = list(product.tables) if product is not None else []
    same(f"{model.name}.product: tables", found, expected.product)
    if product is not None:
        for name, high in ("mantissa", 65535), ("shift", 47):
            values = getattr(product, name)
            same(f"{model.name}.product: {name}", values.shape, (expected.factors,))
            if (values < 0).any() or (values > high).any():
                raise ConfigError(f"{model.name}.product: {name} is outside 0..{high}")
    for part, widths, layers in (
        ("bottom", expected.bottom, model.bottom),
        ("top", expected.top, model.top),
    ):
        same(f"{model.name}.{part}: layers", len(layers), len(widths))
        for i, layer in enumerate(layers):
            where = f"{model.name}.{part}.{i}"
            shape = expected.layers(features)[f"{part}.{i}"]
            same(f"{where}: weights", layer.weights.shape, shape)
            for name in ("bias", "mantissa", "shift"):
                same(f"{where}: {name}", getattr(layer, name).shape, shape[:1])
            same(f"{where}: logit", layer.logit, part == "top" and i == len(layers) - 1)


def check_gather(config: Config, stage: int, model: QuantisedModel) -> None:
    """Check that a stage's gather unit takes the features and tables.

    Raises
    ------
    ConfigError
        Naming the limit that is exceeded.
    """
    gather = config.hardware.gather[stage]
    for table in model.tables:
        if table.rows.shape[1] > gather.max_dimension:
            raise ConfigError(
                f"{model.name}.{table.name}: dimension {table.rows.shape[1]}, but "
                f"hardware.gather.{stage}.max_dimension = {gather.max_dimension}"
            )
