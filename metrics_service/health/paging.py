"""Pages of the list of instances. A token names the last instance of a page, so that no instance
that stays is left out or repeated while others come and go, and across restarts.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

MAX_PAGE_SIZE: Final = 100

MAX_TOKEN_CHARS: Final = 2_048
"""More than the longest names take."""

_VERSION: Final = 1


class Key(NamedTuple):
    """The place of an instance in the list: those of watched services come first."""

    other: bool
    service: str
    instance: str


class Page(NamedTuple):
    """The instances to list: at most `size`, those after the place `after`."""

    size: int = MAX_PAGE_SIZE
    after: Key | None = None


FIRST: Final = Page()


def token_of(key: Key) -> str:
    """Return the token of the page after an instance."""
    service = key.service.encode()
    head = bytes([_VERSION, key.other]) + len(service).to_bytes(4, "big")
    return base64.urlsafe_b64encode(head + service + key.instance.encode()).decode().rstrip("=")


def key_of(token: str) -> Key | None:
    """Return the instance after which a page begins; None for a text that token_of never gave."""
    if len(token) > MAX_TOKEN_CHARS:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        size = int.from_bytes(raw[2:6], "big")
        service, instance = raw[6 : 6 + size].decode(), raw[6 + size :].decode()
    except (binascii.Error, ValueError):
        return None
    key = Key(raw[1:2] == b"\1", service, instance)
    return key if token_of(key) == token else None
