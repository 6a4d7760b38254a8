"""Fixtures that every test may use."""

import os
import zlib

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded from the test's id; ``RPACCEL_SEED`` in the environment overrides."""
    seed = int(os.environ.get("RPACCEL_SEED", zlib.crc32(request.node.nodeid.encode())))
    print(f"RPACCEL_SEED={seed}")
    return np.random.default_rng(seed)
