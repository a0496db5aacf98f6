"""The execute times above which a query is slow, the same for figures, verdicts and inspection."""

from __future__ import annotations

from typing import Final

SLOW_US: Final = 500_000
"""A query is slow when its execute time is above this; exactly 500 ms is not slow."""

CRITICAL_US: Final = 1_000_000
"""Above this a slow query is critical; exactly 1,000 ms is not."""
