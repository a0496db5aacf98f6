"""A command as a request describes it, with what identifies a repeat of the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from booking_service.domain.commands import Command

C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class CommandRequest(Generic[C]):
    """A command, and what identifies a repeat of it.

    `fingerprint` is the SHA-256 of the request without its request_id; the ids that the command
    gets here differ on each repeat, the fingerprint does not. With `validate_only` the command is
    decided and nothing is changed.
    """

    command: C
    request_id: UUID | None
    fingerprint: bytes
    validate_only: bool = False


def fingerprint(request: Message) -> bytes:
    """Return the SHA-256 of the deterministic serialisation of a request without its request_id."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()
