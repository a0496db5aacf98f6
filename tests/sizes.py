"""How much a test does, and how slow the machine may be: TEST_SIZE and TEST_SLOWNESS."""

from __future__ import annotations

import math
import os
from typing import Final

SIZE: Final = os.environ.get("TEST_SIZE", "small")
if SIZE not in ("small", "middle", "full"):
    raise ValueError(f"TEST_SIZE={SIZE!r}: must be small, middle or full")

SLOWNESS: Final = float(os.environ.get("TEST_SLOWNESS", "1"))
"""How many times as long everything may take as on two cores that do nothing else."""


def size(small: int, full: int) -> int:
    """One of the two, or their geometric mean where TEST_SIZE=middle."""
    return {"small": small, "middle": round(math.sqrt(small * full)), "full": full}[SIZE]
