"""Stores the answer to each request id, so that a repeated request takes effect once.

An answer is stored in the transaction that did the work, and kept for KEEP_ANSWERS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from booking_service.group_commit.save import write_all
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

KEEP_ANSWERS: Final = timedelta(hours=24)

SLOT_S: Final = 4 * 3600
SLOTS: Final = 8
"""Answers are stored in SLOTS partitions, each for SLOT_S in turn; an old one is emptied whole."""

_IDEMPOTENCY: Final = QueryGroup("idempotency")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identifies a request of a caller; a repeat has the same key."""

    caller: str
    rpc: str
    request_id: UUID


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer to a request, with a digest of the request."""

    fingerprint: bytes
    answer: bytes


def idempotency_slot(now: datetime) -> int:
    """Return the partition in which the answers given at a time are stored."""
    return int(now.timestamp()) // SLOT_S % SLOTS


async def find_answers(
    connection: Connection, keys: Iterable[RequestKey], now: datetime
) -> dict[RequestKey, StoredAnswer]:
    """Return the stored answers to these requests."""
    wanted = sorted(keys, key=lambda key: (key.caller, key.rpc, key.request_id))
    if not wanted:
        return {}
    found = await connection.fetch(
        _IDEMPOTENCY.find,
        [key.caller for key in wanted],
        [key.rpc for key in wanted],
        [key.request_id for key in wanted],
        now - KEEP_ANSWERS,
    )
    return {
        RequestKey(row["caller"], row["rpc"], row["request_id"]): StoredAnswer(
            row["fingerprint"], row["answer"]
        )
        for row in found
    }


async def save_answers(
    connection: Connection, answers: dict[RequestKey, StoredAnswer], now: datetime
) -> None:
    """Store first answers. DuplicateKey means that another process answered the request first."""
    slot = idempotency_slot(now)
    ordered = sorted(answers.items(), key=lambda item: str(item[0]))
    await write_all(
        connection,
        _IDEMPOTENCY.create,
        ordered,
        lambda item: (
            *(slot, item[0].caller, item[0].rpc, item[0].request_id),
            *(item[1].fingerprint, item[1].answer, now),
        ),
    )
