"""What a tracking stream at the server's end needs: the log, the fold, health and the terms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from metrics_service.eventlog.producer import ProducerKey, ResumePoint
from metrics_service.eventlog.producers import Appended
from metrics_service.eventlog.single_events import SingleEvent
from protos.tracking.v1 import tracking_pb2


class Log(Protocol):
    """What the streams need of the event log."""

    @property
    def last_position(self) -> int: ...

    @property
    def sink_id(self) -> str: ...

    def on_superseded(self, listener: Callable[[bool], None]) -> None: ...

    def open_producer(
        self,
        key: ProducerKey,
        *,
        epoch: int,
        instance: str,
        service: str,
        backfill: bool,
        succeeds: tuple[str, ...],
    ) -> asyncio.Future[ResumePoint]: ...

    def append(
        self, key: ProducerKey, *, token: int, epoch: int, seq: int, count: int, payload: bytes
    ) -> asyncio.Future[Appended]: ...

    def append_single(self, event: SingleEvent) -> asyncio.Future[bool]: ...

    def close_producer(self, key: ProducerKey, *, token: int) -> asyncio.Future[None]: ...

    def release_producer(self, key: ProducerKey, *, token: int) -> None: ...


class Fold(Protocol):
    """What the streams need of the engine."""

    @property
    def position(self) -> int: ...

    def on_change(self, listener: Callable[[], None]) -> None: ...


class Health(Protocol):
    """Takes the signals of the processes at the other end at once, in whatever state the log is."""

    def on_hello(self, instance: str, service: str) -> None: ...

    def on_heartbeat(
        self, instance: str, service: str, signals: tracking_pb2.Signals, facts_seq: int = 0
    ) -> None: ...

    def on_goodbye(self, instance: str, service: str) -> None: ...

    def on_closed(self, instance: str, service: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server announces to every stream or holds it to."""

    heartbeat_s: float
    credit_bytes: int
    max_batch_bytes: int
    allow_backfill: bool
    allow_live: bool = True

    def takes(self, backfill: bool) -> bool:
        """Whether a producer of history, or a live one, may send."""
        return self.allow_backfill if backfill else self.allow_live
