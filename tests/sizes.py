"""How much a test does: a small part in `make test`, more where TEST_SIZE asks for it."""

from __future__ import annotations

import math
import os
from typing import Final

SIZE: Final = os.environ.get("TEST_SIZE", "small")
if SIZE not in ("small", "middle", "full"):
    raise ValueError(f"TEST_SIZE={SIZE!r}: must be small, middle or full")


def size(small: int, full: int) -> int:
    """One of the two, or their geometric mean where TEST_SIZE=middle."""
    return {"small": small, "middle": round(math.sqrt(small * full)), "full": full}[SIZE]
