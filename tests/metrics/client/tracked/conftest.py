"""A tracker whose pauses are the test's."""

from __future__ import annotations

import pytest

from servicekit import pauses
from tests.metrics.client.tracked.pausing import TICK_S, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    # A tick misses so much of a pause, and no test waits for longer than that.
    monkeypatch.setattr(pauses, "TICK_NS", round(TICK_S * 1e9))
    return World()
