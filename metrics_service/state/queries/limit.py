"""Bounds the number of queries in an answer, and its bytes; requests are checked against the same
bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from google.protobuf.message import Message

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500

MAX_OPERATION_BYTES: Final = 512
"""Of a filter: both names of an operation are kept to 200 bytes."""

MAX_ANSWER_BYTES: Final = 900_000
"""Of the list in an answer, which stays below 1 MiB with what is around it."""

_FRAME_BYTES: Final = 8

M = TypeVar("M", bound=Message)


def bounded_limit(limit: int) -> int:
    """Return a request's `limit`, at most MAX_LIMIT; DEFAULT_LIMIT for one that is not set."""
    return min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT


def fitting(messages: Iterable[M], limit: int) -> Iterator[M]:
    """Yield the first messages of an answer: `limit`, or fewer if they have MAX_ANSWER_BYTES."""
    size = 0
    for _, message in zip(range(limit), messages, strict=False):
        size += message.ByteSize() + _FRAME_BYTES
        if size > MAX_ANSWER_BYTES:
            return
        yield message
