"""Bounds that several requests share, as the comments of the .proto files state them."""

from __future__ import annotations

from typing import Final

MAX_QUANTITY: Final = 100
MAX_PARTY_SIZE: Final = 1000
MAX_BATCH: Final = 100
MAX_ETAG: Final = 100
