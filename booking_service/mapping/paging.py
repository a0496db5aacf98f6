"""Page tokens: where a list goes on, bound to the request it belongs to.

A token holds a version, the keyset (sort key, id) of the last row answered and a digest over these
and every filter of the request; one that is altered, of another request or of another version is
refused. It is no secret and grants nothing: it only names a position.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Final
from uuid import UUID

from google.protobuf.message import Message

from booking_service.errors import page_token_invalid
from booking_service.mapping.fields import Fields
from booking_service.reads.keyset import Key

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200

_VERSION = 1
_KEY = struct.Struct(">Bq16s")
_DIGEST_BYTES = 16


def size_of(
    read: Fields,
    field: str,
    value: int,
    *,
    default: int = DEFAULT_PAGE_SIZE,
    most: int = MAX_PAGE_SIZE,
) -> int:
    """How many rows are asked for: 0 is the default, more than the most is the most."""
    if value < 0:
        read.bad(field, f"must not be negative, is {value}")
    return min(value or default, most)


def after(request: Message, token: str) -> Key | None:
    """The row after which a page begins; raises PAGE_TOKEN_INVALID."""
    if not token:
        return None
    key = page_key(request, token)
    if key is None:
        raise page_token_invalid()
    return key


def next_token(request: Message, last: Key | None) -> str:
    """The token of the page after `last`; empty on the last page."""
    return page_token(request, last) if last is not None else ""


def page_token(request: Message, last: Key) -> str:
    """The token of the page after `last`, for `request` with any page_size."""
    key = _KEY.pack(_VERSION, last.sort, last.id.bytes)
    return base64.urlsafe_b64encode(key + _digest(request, key)).decode().rstrip("=")


def page_key(request: Message, token: str) -> Key | None:
    """What `token` says, or None when it is not one of `request`."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    key, digest = raw[: _KEY.size], raw[_KEY.size :]
    if len(raw) != _KEY.size + _DIGEST_BYTES or digest != _digest(request, key):
        return None
    version, sort, id_bytes = _KEY.unpack(key)
    return Key(sort, UUID(bytes=id_bytes)) if version == _VERSION else None


def _digest(request: Message, key: bytes) -> bytes:
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_token")
    filters.ClearField("page_size")
    name = request.DESCRIPTOR.full_name.encode()
    text = b"\0".join((name, key, filters.SerializeToString(deterministic=True)))
    return hashlib.sha256(text).digest()[:_DIGEST_BYTES]
