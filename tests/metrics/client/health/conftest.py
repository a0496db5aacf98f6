"""A health window by a clock that the test sets."""

from __future__ import annotations

import pytest

from metrics_service.client.health import (
    HealthWindow,
)
from tests.metrics.client.recording import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> HealthWindow:
    return HealthWindow(monotonic_ns=clock.monotonic_ns)
