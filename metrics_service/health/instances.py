"""The instances that are known: a bounded number, each kept until it has ended or been replaced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Final

import structlog

from metrics_service.health.instance import Instance
from protos.metrics.v1.health_pb2 import InstanceHealth

log = structlog.get_logger()

MAX_INSTANCES: Final = 100
"""Of watched services, and as many of all others: neither takes the place of the other."""

MAX_DETAILED: Final = 10
"""Of each of the two, so many have percentiles and operations, which take most of the memory."""

MAX_LISTED: Final = 100
"""An answer lists so many."""

MAX_NAME_BYTES: Final = 256

REFUSALS_LOGGED_S: Final = 60.0
"""Refused instances are logged at most this often, with their number."""

REPLACED_AFTER_S: Final = 60.0
"""A stale instance is forgotten after this when another one of its service reports, or when it does
not decide.
"""

FORGOTTEN_AFTER_S: Final = 24 * 3600.0
"""A stale instance is forgotten after this in any case."""


class Instances:
    """Instances by service and name, in the order in which they appeared, watched ones first.

    An instance without a heartbeat for stale_after_s is stale. now_ns is monotonic and does not
    count the time in which this process was paused and could not receive any.
    """

    def __init__(self, *, stale_after_s: float, watched: frozenset[str]) -> None:
        self._stale_after_s = stale_after_s
        self._watched = watched
        self._refused = 0
        self._refused_logged_ns = -math.inf
        self._watched_ones: dict[tuple[str, str], Instance] = {}
        self._others: dict[tuple[str, str], Instance] = {}

    def __iter__(self) -> Iterator[Instance]:
        yield from self._watched_ones.values()
        yield from self._others.values()

    def __len__(self) -> int:
        return len(self._watched_ones) + len(self._others)

    def deciding(self) -> Iterator[Instance]:
        """Yield those that decide the merged verdict: watched ones that have sent a heartbeat."""
        return (entry for entry in self._watched_ones.values() if entry.signals is not None)

    def is_watched(self, service: str) -> bool:
        return service in self._watched

    def get(self, name: str, service: str) -> Instance | None:
        return self._group(service).get((service, name))

    def add(self, entry: Instance, now_ns: int) -> bool:
        """Add a new one, in place of a stale one where there are too many; False if none is, or if
        its names are too long.
        """
        if max(len(entry.name.encode()), len(entry.service.encode())) > MAX_NAME_BYTES:
            self._log_refused(entry, now_ns)
            return False
        group = self._group(entry.service)
        if len(group) >= MAX_INSTANCES and not self._evict(group, now_ns):
            self._log_refused(entry, now_ns)
            return False
        entry.detailed = sum(each.detailed for each in group.values()) < MAX_DETAILED
        group[entry.service, entry.name] = entry
        return True

    def remove(self, name: str, service: str) -> bool:
        """Forget an instance; returns whether it was known."""
        return self._group(service).pop((service, name), None) is not None

    def is_stale(self, entry: Instance, now_ns: int) -> bool:
        return entry.silent_ns(now_ns) / 1e9 >= self._stale_after_s

    def is_gone(self, entry: Instance, now_ns: int) -> bool:
        """Whether it closed its stream without a Goodbye, or is stale."""
        return entry.closed_ns is not None or self.is_stale(entry, now_ns)

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
            decides = self.is_watched(entry.service) and entry.signals is not None
            limit_s = FORGOTTEN_AFTER_S if decides else REPLACED_AFTER_S
            if began_ns is not None:
                limit_s = REPLACED_AFTER_S
                if entry.closed_ns is not None and began_ns > entry.closed_ns:
                    limit_s = 0.0
            if entry.silent_ns(now_ns) / 1e9 >= limit_s:
                self.remove(entry.name, entry.service)

    def to_protos(self, now_ns: int) -> Iterator[InstanceHealth]:
        """Yield at most MAX_LISTED in the contract's form."""
        for entry in islice(self, MAX_LISTED):
            watched, gone = self.is_watched(entry.service), self.is_gone(entry, now_ns)
            yield entry.to_proto(now_ns, watched=watched, gone=gone)

    def _group(self, service: str) -> dict[tuple[str, str], Instance]:
        return self._watched_ones if self.is_watched(service) else self._others

    def _evict(self, group: dict[tuple[str, str], Instance], now_ns: int) -> bool:
        """Forget the instance of a group with the oldest heartbeat, if it is stale."""
        oldest = min(group.values(), key=lambda entry: entry.last_beat_ns)
        return self.is_stale(oldest, now_ns) and self.remove(oldest.name, oldest.service)

    def _log_refused(self, entry: Instance, now_ns: int) -> None:
        self._refused += 1
        if now_ns - self._refused_logged_ns >= REFUSALS_LOGGED_S * 1e9:
            self._refused_logged_ns = now_ns
            log.warning(
                "health_instance_refused",
                instance=entry.name[:MAX_NAME_BYTES],
                service=entry.service[:MAX_NAME_BYTES],
                refused=self._refused,
                limit=MAX_INSTANCES,
            )
