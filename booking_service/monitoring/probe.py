"""Says whether the database answers: asked every second on a connection of its own, so that an
exhausted pool is not taken for a dead server, nor silence for health.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import structlog

from booking_service.storage.connection import OwnConnection
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import (
    DatabaseError,
    DatabaseUnavailable,
    translate_driver_errors,
)
from booking_service.storage.sql import QueryGroup
from protos.tracking.v1 import tracking_pb2
from servicekit.clock import wall_us

SCHEMA_VERSION: Final = "0005"
"""The newest migration that this code needs; the indexes (9xxx) are not needed to work."""

DEADLINE_S: Final = 1.0

_SQL = QueryGroup("probe")
_UNDEFINED_TABLE = "42P01"

log = structlog.get_logger()


class ProbeState(IntEnum):
    """The numbers are those of tracking.v1.Probe.Result."""

    REACHABLE = 1
    UNREACHABLE = 2
    SCHEMA_MISSING = 3


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One look at the database.

    `latency_us` is that of SELECT 1, or the time until it failed; `checked_ns` is monotonic;
    `clock_offset_us` is the database's clock minus this process's, as last measured.
    """

    state: ProbeState
    latency_us: int
    checked_ns: int
    clock_offset_us: int
    message: str

    @property
    def ok(self) -> bool:
        return self.state is ProbeState.REACHABLE

    def to_proto(self, now_ns: int) -> tracking_pb2.Probe:
        """For a heartbeat; `now_ns` on the same monotonic clock gives its age."""
        return tracking_pb2.Probe(
            result=tracking_pb2.Probe.Result.ValueType(self.state),
            latency_us=self.latency_us,
            age_ms=max(0, now_ns - self.checked_ns) // 1_000_000,
            clock_offset_us=self.clock_offset_us,
        )


class DatabaseProbe:
    """Looks at the database every `interval_s`; reconnects by itself.

    `on_result` is called with each result, in the event loop. `result` is None before the first.
    """

    def __init__(
        self,
        database: Database,
        *,
        interval_s: float = 1.0,
        on_result: Callable[[ProbeResult], None] | None = None,
        now_us: Callable[[], int] = wall_us,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.result: ProbeResult | None = None
        self._database = database
        self._interval_s = interval_s
        self._on_result = on_result
        self._now_us = now_us
        self._monotonic_ns = monotonic_ns
        self._connection: OwnConnection | None = None
        self._clock_offset_us = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look now and from then on."""
        self._task = asyncio.create_task(self._run(), name="database-probe")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._drop()

    async def check(self) -> ProbeResult:
        """Look once, DEADLINE_S at most; never raises.

        Repeat it after a pause of this process: the timeout expired before the answer was read.
        """
        began_ns = self._monotonic_ns()
        result = await self._check()
        if not result.ok and self._monotonic_ns() - began_ns > 2 * DEADLINE_S * 1e9:
            result = await self._check()
        self._take(result)
        return result

    async def _check(self) -> ProbeResult:
        began_ns = self._monotonic_ns()
        try:
            with translate_driver_errors():
                async with asyncio.timeout(DEADLINE_S):
                    state, latency_us = await self._look()
            message = "" if state is ProbeState.REACHABLE else "the schema is not there"
        except (DatabaseUnavailable, DatabaseError) as error:
            self._drop()
            latency_us = (self._monotonic_ns() - began_ns) // 1000
            state, message = ProbeState.UNREACHABLE, str(error)
        return ProbeResult(state, latency_us, self._monotonic_ns(), self._clock_offset_us, message)

    async def _look(self) -> tuple[ProbeState, int]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect("probe")
        connection = self._connection
        began_ns = self._monotonic_ns()
        await connection.fetchval(_SQL.ping)
        latency_us = (self._monotonic_ns() - began_ns) // 1000
        sent_us = self._now_us()
        there = await self._database.clock.now(connection)
        there_us = round(there.timestamp() * 1e6)
        # The answer was made between question and answer. The offset moves only as far as that
        # proves it wrong: an event loop that was slow for once must not shift every stamp.
        low_us, high_us = there_us - self._now_us(), there_us - sent_us
        self._clock_offset_us = min(max(self._clock_offset_us, low_us), high_us)
        return await schema_state(connection), latency_us

    def _take(self, result: ProbeResult) -> None:
        before = self.result
        self.result = result
        if before is None or before.state is not result.state:
            say = log.info if result.ok else log.error
            say("database probe", state=result.state.name.lower(), message=result.message)
        if self._on_result is not None:
            self._on_result(result)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    async def _run(self) -> None:
        while True:
            try:
                await self.check()
            except Exception:
                # Whoever listens failed; the looking goes on.
                log.exception("database probe failed")
            await asyncio.sleep(self._interval_s)


async def schema_state(connection: OwnConnection) -> ProbeState:
    """REACHABLE or SCHEMA_MISSING."""
    try:
        with translate_driver_errors():
            present = await connection.fetchval(_SQL.schema, SCHEMA_VERSION)
    except DatabaseError as error:
        if error.sqlstate != _UNDEFINED_TABLE:
            raise
        present = False
    return ProbeState.REACHABLE if present else ProbeState.SCHEMA_MISSING
