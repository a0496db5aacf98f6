"""First answers by request id: a request that was carried out is carried out once.

An answer is kept in the transaction that did the work, for KEEP_ANSWERS.
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

_idempotency = QueryGroup("idempotency")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identifies a request of a caller; the same one is carried out once."""

    caller: str
    rpc: str
    request_id: UUID


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer to a request, with a digest of what was asked."""

    fingerprint: bytes
    answer: bytes


def idempotency_slot(now: datetime) -> int:
    """The partition in which the answers given at a time are kept."""
    return int(now.timestamp()) // SLOT_S % SLOTS


async def find_answers(
    connection: Connection, keys: Iterable[RequestKey], now: datetime
) -> dict[RequestKey, StoredAnswer]:
    """First answers that are still kept."""
    wanted = sorted(keys, key=lambda key: (key.caller, key.rpc, key.request_id))
    if not wanted:
        return {}
    found = await connection.fetch(
        _idempotency.find,
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
    """Keeps first answers; a DuplicateKey means that another copy of the service was faster."""
    slot = idempotency_slot(now)
    ordered = sorted(answers.items(), key=lambda item: str(item[0]))
    await write_all(
        connection,
        _idempotency.create,
        ordered,
        lambda item: (
            *(slot, item[0].caller, item[0].rpc, item[0].request_id),
            *(item[1].fingerprint, item[1].answer, now),
        ),
    )
