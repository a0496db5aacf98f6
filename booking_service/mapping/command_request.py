"""A command as a request asks for it, with what makes a repeat of the request known."""

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
    """A command, and what makes a repeat of it known.

    `fingerprint` is the SHA-256 of the request without its request_id: the ids that a command
    gets here differ at each repeat, the fingerprint does not. `validate_only`: it is asked what
    the command would come to, and nothing is to change.
    """

    command: C
    request_id: UUID | None
    fingerprint: bytes
    validate_only: bool = False


def fingerprint(request: Message) -> bytes:
    """SHA-256 of a request's deterministic serialisation without its request_id."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()
