"""Keeps the deployments that were marked: the same version at the same time is one row."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg

from metrics_service.storage.connections import TROUBLE, connect
from metrics_service.storage.errors import LogUnavailableError, line_of
from metrics_service.storage.sql import QueryGroup

MAX_KEPT: Final = 1000
"""Deployments in the table: beyond it the oldest are deleted."""

MAX_ALERTS: Final = 10_000
MAX_CONNECTIONS: Final = 2
TIMEOUT_S: Final = 10.0

_DEPLOYMENTS: Final = QueryGroup("deployments")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment: `id` is 32 hex digits, `marked_by` the identity that marked it."""

    id: str
    version: str
    time_us: int
    marked_by: str


class Deployments:
    """The table of deployments. Each call has a connection of its own, since calls are rare.

    Every method raises LogUnavailableError where the database cannot be used.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def mark(self, version: str, time_us: int, marked_by: str) -> Deployment:
        """Store a deployment, and return it as it was marked first."""
        id_ = UUID(bytes=hashlib.sha256(f"{time_us} {version}".encode()).digest()[:16])
        time = _EPOCH + timedelta(microseconds=time_us)

        async def write(connection: asyncpg.Connection[Any]) -> str:
            async with connection.transaction():
                marked: str = await connection.fetchval(
                    _DEPLOYMENTS.mark, id_, version, time, marked_by
                )
                await connection.execute(_DEPLOYMENTS.forget, MAX_KEPT)
            return marked

        return Deployment(id_.hex, version, time_us, await self._using(write))

    async def find(self, id_: str) -> Deployment | None:
        """Return one deployment; None also for what is no id."""
        try:
            uuid = UUID(hex=id_)
        except ValueError:
            return None
        row = await self._using(lambda each: each.fetchrow(_DEPLOYMENTS.get, uuid))
        return None if row is None else _deployment(row)

    async def newest(self, limit: int) -> list[Deployment]:
        """Return the newest deployments, newest first."""
        rows = await self._using(lambda each: each.fetch(_DEPLOYMENTS.list_newest, limit))
        return [_deployment(row) for row in rows]

    async def critical_alerts(self, since_us: int) -> list[tuple[str, int]] | None:
        """Return the rules of the critical alerts that have fired since a time, and when, oldest
        first; None where alerts were never recorded.
        """
        since = _EPOCH + timedelta(microseconds=since_us)

        async def read(connection: asyncpg.Connection[Any]) -> list[tuple[str, int]] | None:
            if not await connection.fetchval(_DEPLOYMENTS.are_alerts_recorded):
                return None
            rows = await connection.fetch(_DEPLOYMENTS.list_critical_alerts, since, MAX_ALERTS)
            return [(row["rule"], _microseconds(row["fire_time"])) for row in rows]

        return await self._using(read)

    async def _using(self, query: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, T]]) -> T:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._free:
                connection = await connect(self._dsn)
                try:
                    return await query(connection)
                finally:
                    connection.terminate()
        except TROUBLE as trouble:
            raise LogUnavailableError(line_of(trouble)) from trouble


def _deployment(row: asyncpg.Record) -> Deployment:
    time_us = _microseconds(row["deployed_at"])
    return Deployment(row["id"].hex, row["version"], time_us, row["marked_by"])


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
