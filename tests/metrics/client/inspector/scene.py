"""A query that waits for a lock of another session, and an inspector whose clock the test sets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.inspector import inspector as inspector_module
from metrics_service.client.queries.record import QueryDefinition
from metrics_service.client.tracked import TrackedConnection, Tracker, connect
from protos.tracking.v1 import event_pb2
from tests.metrics.client.recording import Clock, Recording, never_paused, wait_until_waiting

LOCKED = "UPDATE accounts SET balance = balance + 1 WHERE id = $1"


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an observation take as long as a machine with pauses needs."""
    patient = {**inspector_module.SETTINGS, "statement_timeout": "30000"}
    monkeypatch.setattr(inspector_module, "SETTINGS", patient)
    monkeypatch.setattr(inspector_module, "DEADLINE_S", 30.0)


class Observations:
    """Keeps what an inspector observed."""

    def __init__(self) -> None:
        self.running: list[event_pb2.RunningQuery] = []
        self.plans: list[event_pb2.QueryPlan] = []
        self.definitions: list[QueryDefinition] = []

    def add_observation(
        self, observation: event_pb2.RunningQuery | event_pb2.QueryPlan, definition: QueryDefinition
    ) -> None:
        self.definitions.append(definition)
        if isinstance(observation, event_pb2.RunningQuery):
            self.running.append(observation)
        else:
            self.plans.append(observation)


@dataclass
class Scene:
    """A tracker, its inspector and what both recorded; only observe() observes."""

    dsn: str
    clock: Clock = field(default_factory=Clock)
    records: Recording = field(default_factory=Recording)
    observations: Observations = field(default_factory=Observations)
    connected: list[TrackedConnection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = Tracker(
            [self.records],
            now_us=self.clock.now_us,
            monotonic_ns=self.clock.monotonic_ns,
            pauses=never_paused(),
        )

    def inspector(self, **options: Any) -> QueryInspector:
        return QueryInspector(self.tracker, self.connect, self.observations, **options)

    async def connect(self, settings: Mapping[str, str]) -> TrackedConnection:
        """What the inspector connects with."""
        made = await connect(self.dsn, tracker=self.tracker, server_settings=dict(settings))
        self.connected.append(made)
        return made

    @property
    def connects(self) -> int:
        """How often the inspector connected."""
        return len(self.connected)

    def after(self, s: float) -> None:
        """Let time pass."""
        self.clock.s += s


@contextlib.asynccontextmanager
async def blocked(
    scene: Scene, query: str = LOCKED, *args: object, blocker: str = LOCKED.replace("$1", "1")
) -> AsyncIterator[tuple[asyncpg.Connection[Any], TrackedConnection, asyncio.Task[Any]]]:
    """(the lock's holder, its waiter, the waiting query), once it waits."""
    holder = await asyncpg.connect(scene.dsn, server_settings={"application_name": "the holder"})
    waiter = await connect(scene.dsn, tracker=scene.tracker)
    try:
        await holder.execute(
            "CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, balance int, name text);"
            "INSERT INTO accounts VALUES (1, 0, 'a') ON CONFLICT DO NOTHING"
        )
        await holder.execute("BEGIN")
        await holder.execute(blocker)
        task = asyncio.ensure_future(waiter.fetch(query, *(args or (1,))))
        await wait_until_waiting(scene.dsn, waiter.get_server_pid())
        try:
            yield holder, waiter, task
        finally:
            await holder.execute("ROLLBACK")
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await waiter.close()
        await holder.close()


async def _update(connection: TrackedConnection) -> None:
    await connection.fetch(LOCKED, 1)


@contextlib.asynccontextmanager
async def waiting(
    scene: Scene, work: Callable[[TrackedConnection], Awaitable[None]] = _update
) -> AsyncIterator[tuple[TrackedConnection, asyncio.Future[None]]]:
    """(a connection, work on it), once that waits for a lock; its holder must end first."""
    connection = await connect(scene.dsn, tracker=scene.tracker)
    task = asyncio.ensure_future(work(connection))
    try:
        await wait_until_waiting(scene.dsn, connection.get_server_pid())
        yield connection, task
        await task
    finally:
        await connection.close()
