"""What all lists have in common: how long a page is, and after which row it begins."""

from __future__ import annotations

from google.protobuf.message import Message

from booking_service.errors import page_token_invalid
from booking_service.mapping.fields import Fields
from booking_service.mapping.paging import page_key, page_token
from booking_service.reads.keyset import Key

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


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
