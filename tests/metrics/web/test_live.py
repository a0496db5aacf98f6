"""What the readers of the stream are sent, and how often it is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from metrics_service.alerts.listing import Key
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.fanout import ClosedError, FullError
from metrics_service.state.series.rings import SECOND_US, Window
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.web import live as module
from metrics_service.web.encode import Json, encode
from metrics_service.web.live import MAX_READERS, MAX_WINDOWS, Live, Reader
from protos.metrics.v1.alert_pb2 import ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot
from tests.metrics.running_service import BOUND_S, until

HOUR = Window(3_600 * SECOND_US)
DAY = Window(86_400 * SECOND_US)
ALL = {"status", "health", "alerts", "snapshot"}


@dataclass
class Parts:
    """What a Live reads, and how often it did."""

    revision: int = 1
    unreadable: bool = False
    broken: bool = False
    leads: bool = True
    lost: bool = False
    rule: str = "x"
    role: str = "active"
    snapshots: list[Window] = field(default_factory=list)
    lists: int = 0
    faults: int = 0

    async def snapshot(self, window: Window) -> MetricsSnapshot:
        self.snapshots.append(window)
        if self.unreadable:
            raise UnreadableError("not now")
        if self.broken:
            raise RuntimeError("a secret")
        return MetricsSnapshot(revision=self.revision)

    async def list_alerts(
        self, *, include_over: bool, size: int, after: Key | None
    ) -> ListAlertsResponse:
        self.lists += 1
        if self.lost:
            raise LogUnavailableError("gone")
        answer = ListAlertsResponse()
        answer.as_of.FromSeconds(self.lists)
        answer.alerts.add(rule=self.rule)
        return answer

    async def status(self) -> dict[str, Json]:
        return {"revision": self.revision, "as_of": "", "lag_s": 0.1, "role": self.role}

    def fault(self) -> None:
        self.faults += 1


@contextlib.asynccontextmanager
async def living(parts: Parts) -> AsyncIterator[Live]:
    live = Live(
        parts.snapshot,
        lambda _: DatabaseHealth(status=DatabaseHealth.HEALTHY),
        parts,
        parts.status,
        on_fault=parts.fault,
    )
    live.start()
    try:
        yield live
    finally:
        await live.stop()


def events_of(frames: bytes) -> list[tuple[str, str, Any]]:
    """Name, id and data of each event."""
    events = []
    for block in frames.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append((lines["event"], lines.get("id", ""), json.loads(lines["data"])))
    return events


async def names(reader: Reader, wanted: set[str]) -> dict[str, Any]:
    """Read until each of the events has come, and return the newest of each."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(BOUND_S):
        while not wanted <= set(found):
            frames = await reader.take()
            assert frames is not None
            found.update((name, (number, data)) for name, number, data in events_of(frames))
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_S", 0.01)
    monkeypatch.setattr(module, "LEAST_GAP_S", 0.001)


async def test_a_reader_is_sent_everything_at_once_then_what_changes() -> None:
    parts = Parts()
    async with living(parts) as live:
        reader = live.join(HOUR)
        first = await names(reader, ALL)
        assert first["snapshot"] == ("1", {**first["snapshot"][1], "revision": 1})
        assert first["health"][1]["status"] == "HEALTHY"
        assert first["alerts"][1]["alerts"][0]["rule"] == "x"
        assert first["status"][1]["role"] == "active"
        parts.revision = 2
        assert set(await names(reader, {"snapshot"})) == {"snapshot"}
        parts.role = "standby"
        assert set(await names(reader, {"status"})) == {"status"}
        parts.rule = "y"
        assert set(await names(reader, {"alerts"})) == {"alerts"}
        live.health_changed()
        assert set(await names(reader, {"health"})) == {"health"}


async def test_a_question_is_answered_once_for_all_its_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    async def counted(message: Any) -> bytes:
        made.append(message.DESCRIPTOR.name)
        return await encode(message)

    monkeypatch.setattr(module, "encode", counted)
    parts = Parts()
    async with living(parts) as live:
        readers = [live.join(window) for window in (HOUR, DAY) for _ in range(20)]
        for reader in readers:
            await names(reader, ALL)
        assert sorted(made) == [
            "DatabaseHealth",
            "ListAlertsResponse",
            "MetricsSnapshot",
            "MetricsSnapshot",
        ]
        for reader in readers:
            live.leave(reader)
        await asyncio.sleep(0.05)
        before = len(parts.snapshots), parts.lists
        await asyncio.sleep(0.05)
        assert (len(parts.snapshots), parts.lists) == before


async def test_a_slow_reader_finds_the_newest_of_each() -> None:
    parts = Parts()
    async with living(parts) as live:
        slow, quick = live.join(HOUR), live.join(HOUR)
        for revision in range(1, 20):
            parts.revision = revision
            while (await names(quick, {"snapshot"}))["snapshot"][0] != str(revision):
                pass
        frames = await slow.take()
        assert frames is not None
        assert [(name, number) for name, number, _ in events_of(frames) if number] == [
            ("snapshot", "19")
        ]


async def test_figures_that_cannot_be_had_leave_the_rest() -> None:
    parts = Parts(unreadable=True, leads=False, lost=True)
    with capture_logs() as logs:
        async with living(parts) as live:
            reader = live.join(HOUR)
            found = await names(reader, {"status", "health"})
            assert set(found) == {"status", "health"}
            # A standby asks the database, at its pace.
            assert parts.lists == 1
            parts.unreadable, parts.lost, parts.leads = False, False, True
            await names(reader, {"snapshot", "alerts"})
            assert (parts.faults, logs) == (0, [])
            parts.broken = True
            await until(lambda: parts.faults >= 3, "faults")
    assert [line["event"] for line in logs] == ["live_event_failed"]


async def test_readers_and_windows_are_bounded_and_places_are_given_back() -> None:
    async with living(Parts()) as live:
        windows = [Window(number * 60 * SECOND_US) for number in range(1, MAX_WINDOWS + 1)]
        readers = [live.join(window) for window in windows]
        with pytest.raises(FullError):
            live.join(DAY)
        live.leave(readers.pop())
        readers += [live.join(DAY) for _ in range(MAX_READERS - len(readers))]
        with pytest.raises(FullError):
            live.join(DAY)
        assert live.readers == MAX_READERS
        live.leave(readers.pop())
        readers.append(live.join(DAY))
        live.close()
        assert await _ends(readers[0].take) is None
        with pytest.raises(ClosedError):
            live.join(DAY)


async def _ends(take: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
    async with asyncio.timeout(BOUND_S):
        return await take()
