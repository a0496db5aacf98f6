"""Stores silences, beside the alerts whose notifications they hold back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from metrics_service.state.record import MAX_TIME_US
from metrics_service.storage.alerts import KEPT_DAYS, AlertStore, Connection, instant
from metrics_service.storage.sql import QueryGroup
from protos.metrics.v1.alert_pb2 import Silence, SilenceMatch

MAX_ACTIVE: Final = 1_000
MAX_KEPT: Final = 10_000
"""Of those that have ended."""

_SILENCES: Final = QueryGroup("silences")


class Spot(NamedTuple):
    """The place of a silence in the list: whether it is active, when it was made or else ended."""

    active: bool
    time_us: int
    id: str


FIRST: Final = Spot(True, MAX_TIME_US, "0" * 32)


class SilenceLimitError(Exception):
    """MAX_ACTIVE silences are active."""


class RequestReusedError(Exception):
    """The request was made before with other content."""


class SilenceStore:
    """Silences in the metrics database; errors are those of AlertStore."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store

    async def create(self, silence: Silence, request_id: str) -> Silence:
        """Store a silence, or return the one that the same request has made already; another one
        where request_id is empty. Raises SilenceLimitError and RequestReusedError.
        """
        now = silence.create_time.ToDatetime(UTC)
        content = (
            UUID(silence.id),
            silence.match.rule,
            json.dumps(dict(silence.match.labels), sort_keys=True),
            silence.comment,
            silence.created_by,
            request_id,
            now,
            silence.end_time.ToDatetime(UTC),
        )

        async def write(connection: Connection) -> Silence:
            if request_id:
                request = (silence.created_by, request_id)
                row = await connection.fetchrow(_SILENCES.find, *request)
                if row is not None:
                    return _same(silence_of(row, now), silence)
            if await connection.fetchval(_SILENCES.count_active, now) >= MAX_ACTIVE:
                raise SilenceLimitError
            return silence_of(await connection.fetchrow(_SILENCES.create, *content), now)

        return await self._store.writing(write)

    async def expire(self, silence_id: str, now_us: int) -> Silence | None:
        """End a silence now; one that has ended stays as it is. None if there is none."""
        arguments = (UUID(silence_id), instant(now_us))
        row = await self._store.writing(lambda each: each.fetchrow(_SILENCES.expire, *arguments))
        return None if row is None else silence_of(row, instant(now_us))

    async def list_active(self, now_us: int) -> list[Silence]:
        """Return those that have not ended, newest first."""
        now = instant(now_us)
        rows = await self._store.reading(lambda each: each.fetch(_SILENCES.list_active, now))
        return [silence_of(row, instant(now_us)) for row in rows]

    async def list(
        self, now_us: int, *, include_ended: bool, limit: int, after: Spot
    ) -> list[Silence]:
        """Return active ones, newest first, then those that ended last, after a spot."""
        spot = (after.active, instant(after.time_us), UUID(after.id))
        arguments = (instant(now_us), include_ended, limit, *spot)
        rows = await self._store.reading(lambda each: each.fetch(_SILENCES.list, *arguments))
        return [silence_of(row, instant(now_us)) for row in rows]

    async def forget(self, now_us: int) -> None:
        """Delete those that ended KEPT_DAYS ago, and of those that have ended all but MAX_KEPT."""
        now = instant(now_us)
        arguments = (now - timedelta(days=KEPT_DAYS), now, MAX_KEPT)
        await self._store.writing(lambda each: each.execute(_SILENCES.forget, *arguments))


def silence_of(row: Any, now: datetime) -> Silence:
    """Return a row of silence, a record, as a message."""
    silence = Silence(
        id=row["id"].hex,
        match=SilenceMatch(rule=row["rule"], labels=json.loads(row["labels"])),
        comment=row["comment"],
        created_by=row["created_by"],
        active=row["end_time"] > now,
    )
    silence.create_time.FromDatetime(row["create_time"])
    silence.end_time.FromDatetime(row["end_time"])
    return silence


def _same(found: Silence, asked: Silence) -> Silence:
    if (found.match, found.comment) != (asked.match, asked.comment):
        raise RequestReusedError
    return found
