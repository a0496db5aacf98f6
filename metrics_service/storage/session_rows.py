"""Writes the table of sessions, in the transaction of the checkpoint: its rows and the position of
the log change together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

import asyncpg

from metrics_service.state.journeys.changes import SessionChange, SessionChanges
from metrics_service.state.journeys.visit import printable
from metrics_service.storage.sql import QueryGroup

MAX_ROWS: Final = 250
"""Of one statement: to encode them takes about a millisecond."""

MAX_DELETED_SESSIONS: Final = 5_000

_SESSIONS: Final = QueryGroup("sessions")
_STAND_IN: Final = "~"
_NUL: Final = "\x00"
_ANONYMOUS: Final = "\x01"


async def write(connection: asyncpg.Connection[Any], changes: SessionChanges) -> None:
    """Make the table that of the state whose `changes` these are. To write the same changes again,
    or further ones with them, has one effect.
    """
    if changes.anew:
        await connection.execute(_SESSIONS.remove_all)
    else:
        await connection.execute(_SESSIONS.remove_after, changes.saved_number)
        await connection.execute(_SESSIONS.remove_bookings_after, changes.saved_number)
    name_key: UUID = await connection.fetchval(_SESSIONS.get_name_key)
    day = datetime.fromtimestamp(changes.received_us // 1_000_000, UTC).date()
    each = iter(changes)
    while some := list(islice(each, MAX_ROWS)):
        new = [change for change in some if change.is_new]
        if new:
            await connection.execute(_SESSIONS.add, *_added(new, name_key.bytes), day)
        old = [change for change in some if not change.is_new]
        if old:
            await connection.execute(_SESSIONS.change, *_changed(old), day)
        bookings = [(_text(id_), change.number) for change in some for id_ in change.booking_ids]
        if bookings:
            await connection.execute(_SESSIONS.add_bookings, *_columns(bookings))


async def forget(connection: asyncpg.Connection[Any], first: date) -> int:
    """Delete some of the sessions whose newest event was received before a day; returns how many,
    and 0 when there are no more.
    """
    return int(await connection.fetchval(_SESSIONS.forget, first, MAX_DELETED_SESSIONS))


def name_of(key: str, name_key: bytes) -> str:
    """Return the name of an actor of the fold: the id of its session; for a user who stands in for
    one a hash, which nobody without name_key can compute from the user's id.
    """
    if key.startswith(_ANONYMOUS):
        return f"{_STAND_IN}anonymous-{key[1:]}"
    if _NUL in key:
        # Text of the database has no NUL.
        return _STAND_IN + hashlib.blake2b(key.encode(), digest_size=16, key=name_key).hexdigest()
    return key


def _added(changes: Sequence[SessionChange], name_key: bytes) -> list[list[Any]]:
    return _columns(
        (
            change.number,
            name_of(change.key, name_key),
            change.start_us,
            change.steps or 0,
            change.abandoned,
            change.ahead,
            _text(change.package_id),
            change.last_us,
            change.events,
            change.part,
        )
        for change in changes
    )


def _changed(changes: Sequence[SessionChange]) -> list[list[Any]]:
    return _columns(
        (
            change.number,
            change.first,
            change.start_us,
            change.steps,
            change.abandoned,
            change.ahead,
            _text(change.package_id),
            change.last_us,
            change.events,
            change.part,
        )
        for change in changes
    )


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))


def _text(text: str) -> str:
    return text if text.isprintable() else printable(text)
