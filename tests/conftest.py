"""Fixtures that every test may use."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("rpaccel", deadline=None)
settings.load_profile("rpaccel")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded from the test's id; ``RPACCEL_SEED`` in the environment overrides."""
    seed = int(os.environ.get("RPACCEL_SEED", zlib.crc32(request.node.nodeid.encode())))
    print(f"RPACCEL_SEED={seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def data_folder() -> Path:
    """Folder of data that may not be distributed, named by ``RPACCEL_DATA``; skips without it."""
    folder = os.environ.get("RPACCEL_DATA")
    if not folder:
        # Its terms forbid passing it on, so a fresh clone has none of it.
        pytest.skip("RPACCEL_DATA does not name a folder of the data needed")
    return Path(folder)
