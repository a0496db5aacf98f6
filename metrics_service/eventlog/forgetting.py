"""What the log forgets of producers and facts, so that neither grows for ever."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import asyncpg

from metrics_service.eventlog.producer import Producer, ProducerKey
from metrics_service.storage.sql import QueryGroup
from protos.tracking.v1 import tracking_pb2

MAX_PRODUCERS: Final = 10_000
FORGOTTEN_SHARE: Final = 10
"""Beyond the most, one in so many is forgotten at a time."""

MAX_DELETED_FACTS: Final = 10_000
"""Ids of facts that one statement deletes."""

MARGIN: Final = timedelta(days=1)
"""Between the clock of facts and that of the log."""

_FACTS: Final = QueryGroup("facts")


def forgettable(
    stored: Mapping[ProducerKey, Producer], needed: Set[ProducerKey], most: int
) -> list[ProducerKey]:
    """Return which of the stored producers are to be forgotten, in their order, so that with those
    that are needed there are well below `most`: none that is needed or holds facts.
    """
    excess = len(stored.keys() | needed) - most
    number = excess + most // FORGOTTEN_SHARE if excess > 0 else 0
    found: list[ProducerKey] = []
    for key, producer in stored.items():
        if len(found) >= number:
            break
        facts = key.lane == tracking_pb2.LANE_FACTS
        if key not in needed and not (facts and (producer.pinned or producer.next_seq > 1)):
            found.append(key)
    return found


def first_day(now: datetime, newest_fact: datetime, days: int) -> datetime:
    """Return the first day whose ids are kept. The clock of the log and that of the facts must both
    be past it, so that one that jumps forgets nothing.
    """
    first = min(now, newest_fact) - timedelta(days=days)
    return datetime.combine(first.astimezone(UTC).date(), time(), UTC)


async def has_facts_before(connection: asyncpg.Connection[Any], first: datetime) -> bool:
    return bool(await connection.fetchval(_FACTS.exist_before, first.date()))


async def forget_facts(connection: asyncpg.Connection[Any], first: datetime) -> None:
    """Forget the ids of facts received before a day, and remember that they are."""
    await connection.execute(_FACTS.know_from, first + MARGIN)
    while await connection.fetchval(_FACTS.forget, first.date(), MAX_DELETED_FACTS):
        pass
