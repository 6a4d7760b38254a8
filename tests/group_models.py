"""Random models for groups, of layers whose outputs use their range."""

import numpy as np

from sw_model.quantised import (
    QuantisedDot,
    QuantisedLayer,
    QuantisedModel,
    QuantisedProduct,
    QuantisedTable,
)


def random_layer(rng, inputs, outputs, *, logit=False, extreme=False):
    """A layer whose outputs use their range, or of largest weights only."""
    weights = rng.integers(-127, 128, size=(outputs, inputs))
    if extreme:
        weights = np.where(rng.random((outputs, inputs)) < 0.5, -128, 127)
    bias = rng.integers(-(2**14), 2**14, size=outputs)
    mantissa = rng.integers(2**15, 2**16, size=outputs)
    # A sum of K products has a deviation of about 5500 sqrt(K).
    spread = int(np.log2(5500 * np.sqrt(inputs))) - (13 if logit else 6)
    shift = np.clip(16 + spread + rng.integers(-2, 2, size=outputs), 0, 47)
    if extreme and not logit:
        mantissa, shift = rng.integers(0, 3, size=outputs), rng.integers(0, 2, size=outputs)
    return QuantisedLayer(
        weights.astype(np.int8),
        bias.astype(np.int32),
        mantissa.astype(np.int32),
        shift.astype(np.int32),
        relu=not logit and bool(rng.random() < 0.7),
        logit=logit,
    )


def random_model(rng, *, tables, dense, bottom, top, extreme=False, factors=0, dot=False):
    """A model with pooled vectors of the widths ``tables``, ``dense`` inputs and these layers.

    The first ``factors`` elements of the second and the first vector are multiplied; with ``dot``,
    all pairs of vectors.
    """

    def layers(inputs, widths, logits):
        made = []
        for number, width in enumerate(widths):
            logit = logits and number == len(widths) - 1
            inputs += factors * logit
            made.append(random_layer(rng, inputs, width, logit=logit, extreme=extreme))
            inputs = width
        return made

    joined = sum(tables) - 2 * factors + (bottom[-1] if bottom else 0)
    product = interaction = None
    if dot:
        vectors = [*tables, *bottom[-1:]]
        pairs = len(vectors) * (len(vectors) - 1) // 2
        joined = pairs + (bottom[-1] if bottom else 0)
        mantissa = rng.integers(2**14, 2**16, size=pairs).astype(np.int32)
        middle = 19 + int(np.log2(vectors[0])) // 2
        shift = rng.integers(middle, middle + 5, size=pairs).astype(np.int32)
        interaction = QuantisedDot(mantissa, shift)
    if factors:
        mantissa = rng.integers(2**14, 2**16, size=factors).astype(np.int32)
        shift = rng.integers(19, 24, size=factors).astype(np.int32)
        product = QuantisedProduct(("t1", "t0"), mantissa, shift)
    return QuantisedModel(
        "random",
        [QuantisedTable(f"t{i}", np.zeros((1, d), np.int8)) for i, d in enumerate(tables)],
        layers(dense, bottom, False),
        layers(joined, top, True),
        product=product,
        dot=interaction,
    )
