"""A scene on a database of the test's own, and its inspector, which captures no plans."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from metrics_service.client.inspector import QueryInspector
from tests.metrics.client.inspector.scene import Scene, be_patient


@pytest.fixture
def scene(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    be_patient(monkeypatch)
    return Scene(empty_dsn)


@pytest.fixture
async def inspector(scene: Scene) -> AsyncIterator[QueryInspector]:
    made = scene.inspector(plans=False)
    yield made
    await made.stop()
