"""Checks every second whether the database answers, on a connection outside the pool.

An exhausted pool is therefore not mistaken for a dead server; a probe that hangs counts as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
from servicekit.background import BackgroundTask
from servicekit.clock import wall_us

SCHEMA_VERSION: Final = "0050"
"""The newest migration that this code needs; it works without the indexes (9xxx)."""

DEADLINE_S: Final = 1.0
"""How long one probe may take."""


_PROBE: Final = QueryGroup("probe")
_UNDEFINED_TABLE: Final = "42P01"

log = structlog.get_logger()


class ProbeState(IntEnum):
    """The numbers are those of tracking.v1.Probe.Result."""

    REACHABLE = 1
    UNREACHABLE = 2
    SCHEMA_MISSING = 3


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One observation of the database.

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
        """Return the result for a heartbeat; its age is up to `now_ns`, on the monotonic clock."""
        return tracking_pb2.Probe(
            result=tracking_pb2.Probe.Result.ValueType(self.state),
            latency_us=self.latency_us,
            age_ms=max(0, now_ns - self.checked_ns) // 1_000_000,
            clock_offset_us=self.clock_offset_us,
        )


class DatabaseProbe:
    """Probes the database every `interval_s`, and reconnects when the connection is lost.

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
        self._task = BackgroundTask("database-probe")

    def start(self) -> None:
        """Probe now and from then on."""
        self._task.start(self._run())

    async def stop(self) -> None:
        await self._task.stop()
        self._drop()

    async def check(self) -> ProbeResult:
        """Probe once, for at most DEADLINE_S; never raises.

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
                    state, latency_us = await self._observe()
            message = "" if state is ProbeState.REACHABLE else "the schema is missing"
        except (DatabaseUnavailable, DatabaseError) as error:
            self._drop()
            latency_us = (self._monotonic_ns() - began_ns) // 1000
            state, message = ProbeState.UNREACHABLE, str(error)
        return ProbeResult(state, latency_us, self._monotonic_ns(), self._clock_offset_us, message)

    async def _observe(self) -> tuple[ProbeState, int]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect("probe")
        connection = self._connection
        began_ns = self._monotonic_ns()
        await connection.fetchval(_PROBE.ping)
        latency_us = (self._monotonic_ns() - began_ns) // 1000
        sent_us = self._now_us()
        server_time = await self._database.clock.now(connection)
        server_us = round(server_time.timestamp() * 1e6)
        # The server read its clock between sent_us and now. The offset changes only as far as that
        # proves it wrong, so that one slow turn of the event loop does not shift every timestamp.
        low_us, high_us = server_us - self._now_us(), server_us - sent_us
        self._clock_offset_us = min(max(self._clock_offset_us, low_us), high_us)
        return await schema_state(connection), latency_us

    def _take(self, result: ProbeResult) -> None:
        before = self.result
        self.result = result
        if before is None or before.state is not result.state:
            write = log.info if result.ok else log.error
            write("database_probed", state=result.state.name.lower(), message=result.message)
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
                # A listener failed; the probe goes on.
                log.exception("database_probe_failed")
            await asyncio.sleep(self._interval_s)


async def schema_state(connection: OwnConnection) -> ProbeState:
    """Return REACHABLE or SCHEMA_MISSING."""
    try:
        with translate_driver_errors():
            present = await connection.fetchval(_PROBE.schema, SCHEMA_VERSION)
    except DatabaseError as error:
        if error.sqlstate != _UNDEFINED_TABLE:
            raise
        present = False
    return ProbeState.REACHABLE if present else ProbeState.SCHEMA_MISSING
