"""What holds for every test: threads that leave room for the other worker, and explicit seeds."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test that has imported torch starts from the same seed, whatever ran before it."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
