"""Counters of everything folded, and of everything that was irregular: lost, late, skewed,
unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

COUNTERS: Final = (
    "events",
    "facts",
    "telemetry_events",
    "query_timings",
    "duplicates",
    "skewed",
    "dropped_events",
    "dropped_timings",
    "quarantined_batches",
    "quarantined_events",
    "unclean_ends",
    "facts_gaps",
    "facts_lacking",
    "facts_beyond",
)


class Quality:
    """Counters since the log began, by the names of metrics.v1.QualityMetrics."""

    __slots__ = COUNTERS

    def __init__(self, counters: Mapping[str, int] = MappingProxyType({})) -> None:
        """Begin at `counters`, which are 0 where they are not named."""
        self.events = counters.get("events", 0)
        self.facts = counters.get("facts", 0)
        self.telemetry_events = counters.get("telemetry_events", 0)
        self.query_timings = counters.get("query_timings", 0)
        self.duplicates = counters.get("duplicates", 0)
        self.skewed = counters.get("skewed", 0)
        self.dropped_events = counters.get("dropped_events", 0)
        self.dropped_timings = counters.get("dropped_timings", 0)
        self.quarantined_batches = counters.get("quarantined_batches", 0)
        self.quarantined_events = counters.get("quarantined_events", 0)
        self.unclean_ends = counters.get("unclean_ends", 0)
        self.facts_gaps = counters.get("facts_gaps", 0)
        self.facts_lacking = counters.get("facts_lacking", 0)
        self.facts_beyond = counters.get("facts_beyond", 0)

    def counters(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in COUNTERS}
