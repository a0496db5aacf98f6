"""What the readers of `/api/stream` are sent: each event is encoded once for all of them, and one
that reads slowly finds the newest of each kind, never a backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import structlog

from metrics_service.alerts.listing import MAX_PAGE_SIZE, Key
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.fanout import PAUSES_PER_WORK, ClosedError, FullError
from metrics_service.health.paging import FIRST, Page
from metrics_service.state.series.rings import Window
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.web.encode import Json, dumps, encode
from protos.metrics.v1.alert_pb2 import ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot
from servicekit.background import BackgroundTask
from servicekit.handlers import LineLimit

MAX_READERS: Final = 100
MAX_WINDOWS: Final = 16
"""Different windows of all readers."""

GAP_S: Final = 1.0
"""About the time between two snapshots; a new reader does not wait for it."""

LEAST_GAP_S: Final = 0.1
HEALTH_S: Final = 5.0
"""How often health is sent without a change: the ages in it change."""

STATUS_S: Final = 15.0
STANDBY_S: Final = 5.0
"""How often a standby, which reads alerts from the database, looks at them."""

FAULT_GAP_S: Final = 10.0

MOVING: Final = ("revision", "as_of", "lag_s")
"""What changes of a status all the time, and is sent every STATUS_S."""

log = structlog.get_logger()


class Alerting(Protocol):
    """What is read of the alerts."""

    @property
    def leads(self) -> bool: ...

    async def list_alerts(
        self, *, include_over: bool, size: int, after: Key | None
    ) -> ListAlertsResponse: ...


class _Topic:
    """The newest frame of a kind: what it was made of, and when in seconds."""

    __slots__ = ("frame", "made_s", "mark", "version")

    def __init__(self) -> None:
        self.frame = b""
        self.version = 0
        self.mark: object = None
        self.made_s = -math.inf

    def offer(self, name: str, data: bytes, mark: object, now_s: float, *, id_: int = 0) -> None:
        number = b"id: %d\n" % id_ if id_ else b""
        self.frame = b"event: %s\n%sdata: %s\n\n" % (name.encode(), number, data)
        self.version += 1
        self.mark, self.made_s = mark, now_s


class Reader:
    """One reader, which has seen some version of each topic."""

    def __init__(self, window: Window, topics: list[_Topic]) -> None:
        self.window = window
        self._seen = dict.fromkeys(topics, 0)
        self._news = asyncio.Event()
        self._news.set()
        self._ended = False

    async def take(self) -> bytes | None:
        """Wait for frames that were not taken yet; None at the end."""
        while not self._ended:
            await self._news.wait()
            self._news.clear()
            new = [topic for topic, seen in self._seen.items() if topic.version > seen]
            if new and not self._ended:
                self._seen.update((topic, topic.version) for topic in new)
                return b"".join(topic.frame for topic in new)
        return None

    def wake(self) -> None:
        """Have it look for new frames."""
        self._news.set()

    def end(self) -> None:
        """Let `take` return None."""
        self._ended = True
        self._news.set()


class Live:
    """Makes the events while somebody reads. `snapshot` raises UnreadableError where there are no
    figures; `on_fault` is called where they cannot be answered; `status` has MOVING and more.
    """

    def __init__(
        self,
        snapshot: Callable[[Window], Awaitable[MetricsSnapshot]],
        health: Callable[[Page], DatabaseHealth],
        alerts: Alerting,
        status: Callable[[], Awaitable[dict[str, Json]]],
        *,
        on_fault: Callable[[], None] = lambda: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_snapshot = snapshot
        self._read_health = health
        self._read_alerts = alerts
        self._read_status = status
        self._on_fault = on_fault
        self._monotonic_s = monotonic_s
        self._readers: set[Reader] = set()
        self._snapshots: dict[Window, _Topic] = {}
        self._health, self._alerts, self._status = _Topic(), _Topic(), _Topic()
        self._looked_s = -math.inf
        self._making = BackgroundTask("live page")
        self._wanted, self._hurried = asyncio.Event(), asyncio.Event()
        self._closed = False
        self._faults = LineLimit(gap_s=FAULT_GAP_S)

    @property
    def readers(self) -> int:
        """How many read."""
        return len(self._readers)

    def start(self) -> None:
        """Serve readers from now on."""
        self._making.start(self._run())

    def close(self) -> None:
        """End all readers, and take no more."""
        self._closed = True
        for reader in self._readers:
            reader.end()

    async def stop(self) -> None:
        """End all readers, and the work."""
        self.close()
        await self._making.stop()

    def health_changed(self) -> None:
        """Have the health sent."""
        self._health.made_s = -math.inf
        self._hurried.set()

    def join(self, window: Window) -> Reader:
        """Add a reader, which must `leave`. Raises FullError, ClosedError."""
        if self._closed:
            raise ClosedError
        if window not in self._snapshots and len(self._snapshots) >= MAX_WINDOWS:
            raise FullError
        if len(self._readers) >= MAX_READERS:
            raise FullError
        if not self._readers:
            # What was kept for readers that have left is old.
            self._health, self._alerts, self._status = _Topic(), _Topic(), _Topic()
            self._looked_s = -math.inf
        snapshots = self._snapshots.setdefault(window, _Topic())
        reader = Reader(window, [self._status, self._health, self._alerts, snapshots])
        self._readers.add(reader)
        self._wanted.set()
        self._hurried.set()
        return reader

    def leave(self, reader: Reader) -> None:
        """Remove a reader; the work ends with the last one."""
        self._readers.discard(reader)
        if all(each.window != reader.window for each in self._readers):
            self._snapshots.pop(reader.window, None)
        if not self._readers:
            self._wanted.clear()

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._hurried.clear()
            began_s = self._monotonic_s()
            await self._tick(began_s)
            work_s = self._monotonic_s() - began_s
            await asyncio.sleep(max(LEAST_GAP_S, PAUSES_PER_WORK * work_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GAP_S):
                    await self._hurried.wait()

    async def _tick(self, now_s: float) -> None:
        """Make what is due, and wake the readers after each."""
        steps: list[Callable[[], Awaitable[None]]] = [
            partial(self._make_status, now_s),
            partial(self._make_health, now_s),
            *(
                partial(self._make_snapshot, window, topic, now_s)
                for window, topic in list(self._snapshots.items())
            ),
            partial(self._make_alerts, now_s),
        ]
        for step in steps:
            try:
                await step()
            except (UnreadableError, LogUnavailableError):
                continue
            except Exception:
                if (suppressed := self._faults.take()) is not None:
                    log.exception("live_event_failed", suppressed=suppressed)
                continue
            for reader in self._readers:
                reader.wake()

    async def _make_snapshot(self, window: Window, topic: _Topic, now_s: float) -> None:
        try:
            message = await self._read_snapshot(window)
            if message.revision != topic.mark:
                revision = message.revision
                topic.offer("snapshot", await encode(message), revision, now_s, id_=revision)
        except UnreadableError:
            raise
        except Exception:
            self._on_fault()
            raise

    async def _make_health(self, now_s: float) -> None:
        if now_s - self._health.made_s >= HEALTH_S:
            self._health.offer("health", await encode(self._read_health(FIRST)), None, now_s)

    async def _make_alerts(self, now_s: float) -> None:
        if not self._read_alerts.leads and now_s - self._looked_s < STANDBY_S:
            return
        self._looked_s = now_s
        answer = await self._read_alerts.list_alerts(
            include_over=False, size=MAX_PAGE_SIZE, after=None
        )
        mark = ListAlertsResponse()
        mark.CopyFrom(answer)
        mark.ClearField("as_of")
        if mark != self._alerts.mark:
            self._alerts.offer("alerts", await encode(answer), mark, now_s)

    async def _make_status(self, now_s: float) -> None:
        status = await self._read_status()
        mark: dict[str, Any] = {name: status[name] for name in status if name not in MOVING}
        if mark != self._status.mark or now_s - self._status.made_s >= STATUS_S:
            self._status.offer("status", dumps(status).encode(), mark, now_s)
