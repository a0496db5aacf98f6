"""The instances that are known: a bounded number, each kept until it has ended or been replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metrics_service.health.instance import Instance

MAX_INSTANCES: Final = 100

REPLACED_AFTER_S: Final = 60.0
"""A stale instance is forgotten after this when another one of its service reports."""

FORGOTTEN_AFTER_S: Final = 24 * 3600.0
"""A stale instance is forgotten after this in any case."""


class Instances:
    """Instances by name, in the order in which they appeared.

    An instance without a heartbeat for stale_after_s is stale. now_ns is monotonic and does not
    count the time in which this process was paused and could not receive any.
    """

    def __init__(self, *, stale_after_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._by_name: dict[str, Instance] = {}

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Instance | None:
        return self._by_name.get(name)

    def add(self, entry: Instance, now_ns: int) -> bool:
        """Add a new one, in place of a stale one where there are too many; False if none is."""
        if len(self) >= MAX_INSTANCES and not self._evict(now_ns):
            return False
        self._by_name[entry.name] = entry
        return True

    def remove(self, name: str) -> bool:
        """Forget an instance; returns whether it was known."""
        return self._by_name.pop(name, None) is not None

    def is_stale(self, entry: Instance, now_ns: int) -> bool:
        return entry.silent_ns(now_ns) / 1e9 >= self._stale_after_s

    def forget_stale(self, now_ns: int) -> None:
        """Forget those that have been stale for too long, and at once one that was killed and has a
        successor: a process of its service that appeared after its stream was closed, and reports.
        """
        # When the newest process of each service that reports appeared.
        newest_ns: dict[str, int] = {}
        for entry in self:
            if entry.signals is not None and not self.is_stale(entry, now_ns):
                newest_ns[entry.service] = max(newest_ns.get(entry.service, 0), entry.began_ns)
        for entry in [each for each in self if self.is_stale(each, now_ns)]:
            began_ns = newest_ns.get(entry.service)
            limit_s = FORGOTTEN_AFTER_S
            if began_ns is not None:
                limit_s = REPLACED_AFTER_S
                if entry.closed_ns is not None and began_ns > entry.closed_ns:
                    limit_s = 0.0
            if entry.silent_ns(now_ns) / 1e9 >= limit_s:
                del self._by_name[entry.name]

    def _evict(self, now_ns: int) -> bool:
        """Forget the instance with the oldest heartbeat, if it is stale."""
        oldest = min(self, key=lambda entry: entry.last_beat_ns)
        return self.is_stale(oldest, now_ns) and self.remove(oldest.name)
