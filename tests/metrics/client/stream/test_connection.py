"""A connection ends its lanes in any order."""

from __future__ import annotations

import asyncio
from typing import Any

from metrics_service.client.stream.connection import Connection
from metrics_service.client.stream.source import Speaker
from protos.tracking.v1 import tracking_pb2
from tests.metrics.delivery_pair import ListSource


async def test_a_lane_that_has_ended_with_its_connection_can_be_removed() -> None:
    # Nothing is sent before the connection runs.
    call: Any = None
    connection = Connection(
        call,
        speaker=Speaker("test", "i-1"),
        signals=tracking_pb2.Signals,
        on_lane_end=lambda *_: None,
    )
    source = ListSource()
    connection.add(source)
    await asyncio.sleep(0)
    (lane,) = connection._tasks.values()
    lane.cancel()
    await asyncio.gather(lane, return_exceptions=True)
    connection.remove(source)
    assert connection._tasks == {}
