"""Bounds that several requests share, as the comments of the .proto files state them."""

from __future__ import annotations

from typing import Final

MAX_QUANTITY: Final = 100
MAX_PARTY_SIZE: Final = 1000
MAX_BATCH: Final = 100
MAX_BATCH_DAYS: Final = 3660
MAX_ETAG: Final = 100

MAX_TEXT_BYTES: Final = 256
"""Of every string in UTF-8, unless its field states another maximum."""

MAX_SHOWN_CHARS: Final = 200
"""Of a text for people, such as a title or a reason."""

BYTES_PER_CHAR: Final = 4
"""The most in UTF-8."""

MAX_CHOICES: Final = 20
"""Of a repeated enum; the largest has fewer values."""
