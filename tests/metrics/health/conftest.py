"""Gives the tests of health a registry of their own."""

from __future__ import annotations

import pytest

from tests.metrics.health.registry_world import World


@pytest.fixture
def world() -> World:
    return World()
