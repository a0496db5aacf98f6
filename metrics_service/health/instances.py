"""The instances that are known: a bounded number, each kept until it has ended or been replaced."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from metrics_service.health.instance import Instance
from metrics_service.health.paging import Key, Page, token_of
from protos.metrics.v1.health_pb2 import InstanceHealth
from servicekit.handlers import LineLimit

log = structlog.get_logger()

MAX_INSTANCES: Final = 100
"""Of watched services, and as many of all others: neither takes the place of the other."""

MAX_DETAILED: Final = 10
"""Of each of the two, so many have percentiles and operations, which take most of the memory."""

MAX_NAME_BYTES: Final = 256

REFUSALS_LOGGED_S: Final = 60.0
"""Refused instances are logged at most this often."""

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

    def __init__(
        self,
        *,
        stale_after_s: float,
        watched: frozenset[str],
        on_forgotten: Callable[[Instance], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call on_forgotten with each instance that decided and is known no more."""
        self._stale_after_s = stale_after_s
        self._watched = watched
        self._on_forgotten = on_forgotten
        self._refusals = LineLimit(now_s, gap_s=REFUSALS_LOGGED_S)
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
            self._log_refused(entry)
            return False
        group = self._group(entry.service)
        if len(group) >= MAX_INSTANCES and not self._evict(group, now_ns):
            self._log_refused(entry)
            return False
        entry.detailed = sum(each.detailed for each in group.values()) < MAX_DETAILED
        group[entry.key] = entry
        return True

    def remove(self, name: str, service: str) -> bool:
        """Forget an instance; returns whether it was known."""
        entry = self._group(service).pop((service, name), None)
        if entry is not None and self._decides(entry):
            self._on_forgotten(entry)
        return entry is not None

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
            limit_s = FORGOTTEN_AFTER_S if self._decides(entry) else REPLACED_AFTER_S
            if began_ns is not None:
                limit_s = REPLACED_AFTER_S
                if entry.closed_ns is not None and began_ns > entry.closed_ns:
                    limit_s = 0.0
            if entry.silent_ns(now_ns) / 1e9 >= limit_s:
                self.remove(entry.name, entry.service)

    def list_page(self, page: Page, now_ns: int) -> tuple[list[InstanceHealth], str]:
        """Return one page in the contract's form, and the token of the next one, or ""."""
        keys = sorted(Key(not self.is_watched(entry.service), *entry.key) for entry in self)
        following = keys if page.after is None else keys[bisect_right(keys, page.after) :]
        listed = []
        for key in following[: page.size]:
            entry = self._group(key.service)[key.service, key.instance]
            gone = self.is_gone(entry, now_ns)
            listed.append(entry.to_proto(now_ns, watched=not key.other, gone=gone))
        more = len(following) > page.size
        return listed, token_of(following[page.size - 1]) if more else ""

    def _group(self, service: str) -> dict[tuple[str, str], Instance]:
        return self._watched_ones if self.is_watched(service) else self._others

    def _decides(self, entry: Instance) -> bool:
        return self.is_watched(entry.service) and entry.signals is not None

    def _evict(self, group: dict[tuple[str, str], Instance], now_ns: int) -> bool:
        """Forget one of a group that is stale, or that is gone and does not decide, if there is
        one: the one with the oldest heartbeat, of those that do not decide before the others.
        """
        expendable = [
            (self._decides(entry), entry.last_beat_ns, entry.key)
            for entry in group.values()
            if self.is_stale(entry, now_ns)
            or (entry.closed_ns is not None and not self._decides(entry))
        ]
        if not expendable:
            return False
        service, name = min(expendable)[2]
        return self.remove(name, service)

    def _log_refused(self, entry: Instance) -> None:
        suppressed = self._refusals.take()
        if suppressed is not None:
            log.warning(
                "health_instance_refused",
                instance=entry.name[:MAX_NAME_BYTES],
                service=entry.service[:MAX_NAME_BYTES],
                suppressed=suppressed,
                limit=MAX_INSTANCES,
            )
