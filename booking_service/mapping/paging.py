"""Page sizes and page tokens: how long a page is, and after which row it starts.

A token contains a version, the key (sort key, id) of the last row returned, and a digest over these
and every filter of the request. One that is altered, belongs to another request or has another
version is refused. It is not secret and grants nothing: it only names a position.
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

_VERSION: Final = 1
_KEY: Final = struct.Struct(">Bq16s")
_DIGEST_BYTES: Final = 16
# Base64 without padding.
_TOKEN_LENGTH: Final = -(-(_KEY.size + _DIGEST_BYTES) * 4 // 3)


def size_of(
    read: Fields,
    field: str,
    value: int,
    *,
    default: int = DEFAULT_PAGE_SIZE,
    most: int = MAX_PAGE_SIZE,
) -> int:
    """Return how many rows are requested: 0 is the default, more than `most` is `most`."""
    if value < 0:
        read.bad(field, f"must not be negative, is {value}")
    return min(value or default, most)


def after(request: Message, token: str) -> Key | None:
    """Return the row after which a page starts. Raises PAGE_TOKEN_INVALID."""
    if not token:
        return None
    key = _decode(request, token)
    if key is None:
        raise page_token_invalid()
    return key


def next_token(request: Message, last: Key | None) -> str:
    """Return the token of the page after `last`; empty on the last page."""
    return _encode(request, last) if last is not None else ""


def _encode(request: Message, last: Key) -> str:
    """Return the token of the page after `last`, for `request` with any page_size."""
    key = _KEY.pack(_VERSION, last.sort, last.id.bytes)
    return base64.urlsafe_b64encode(key + _digest(request, key)).decode().rstrip("=")


def _decode(request: Message, token: str) -> Key | None:
    """Return the key in a token, None when the token does not belong to the request."""
    if len(token) != _TOKEN_LENGTH:
        return None
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
