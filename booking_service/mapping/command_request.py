"""A command as a request describes it, with what identifies a repeat of the request."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from uuid import UUID, uuid5

from google.protobuf.message import Message

from booking_service.domain.commands import Command
from booking_service.mapping.fields import Fields

C = TypeVar("C", bound=Command)

MAX_REQUEST_ID_CHARS: Final = 128

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# Of request ids that are no UUIDs. Not to be changed: first answers are stored under what it gives.
_NAMESPACE: Final = UUID("3b0f2c5e-6d0a-4a44-9a2e-5c7d1be0f6a1")


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


def read_request_id(read: Fields, text: str) -> UUID | None:
    """Read an optional request_id: a UUID in any case, or another text, for which a UUID stands."""
    if _UUID.fullmatch(text):
        return UUID(text)
    read.text("request_id", text, most=MAX_REQUEST_ID_CHARS, required=False)
    return uuid5(_NAMESPACE, text) if text else None


def fingerprint(request: Message) -> bytes:
    """Return the SHA-256 of the deterministic serialisation of a request without its request_id."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()
