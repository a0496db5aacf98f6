"""Notifies people of queries above the critical threshold: once for each fingerprint and window,
and a bounded number in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from metrics_service.alerts.notify import Notice, Notifier
from metrics_service.measure.thresholds import CRITICAL_US
from metrics_service.state.queries.critical import CriticalQuery
from metrics_service.state.queries.fingerprints import Query
from servicekit.clock import wall_us

log = structlog.get_logger()

WINDOW_S: Final = 300.0
"""A fingerprint is reported once in this time; queries that ended before it are not reported."""

MAX_NOTICES: Final = 20
"""Within WINDOW_S."""

RULE: Final = "slow_query"


class Source(Protocol):
    """Where queries come from: metrics_service.state.fold.State."""

    def critical_queries(self, after: int) -> list[tuple[CriticalQuery, Query]]: ...


class SlowQueryAlert:
    """The rule slow_query. `observe` must be called about once a second.

    A restart folds older queries again: they are not reported, since they ended before WINDOW_S;
    those that ended within it may be reported a second time.
    """

    def __init__(
        self,
        source: Callable[[], Source],
        notifier: Notifier,
        *,
        now_us: Callable[[], int] = wall_us,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.not_emitted = 0
        self._source = source
        self._notifier = notifier
        self._now_us = now_us
        self._monotonic_s = monotonic_s
        self._seen = 0
        # When each fingerprint was reported, oldest first; at most MAX_NOTICES.
        self._reported_s: dict[str, float] = {}
        self._full = False

    def observe(self) -> None:
        """Report the queries since the last call; `not_emitted` counts those beyond MAX_NOTICES."""
        found = self._source().critical_queries(self._seen)
        if not found:
            return
        self._seen = found[-1][0].number
        now_s = self._monotonic_s()
        oldest_us = self._now_us() - int(WINDOW_S * 1e6)
        self._reported_s = {
            fingerprint: reported_s
            for fingerprint, reported_s in self._reported_s.items()
            if now_s - reported_s < WINDOW_S
        }
        for slow, query in found:
            if slow.start_us + slow.execute_us < oldest_us or query.fingerprint in self._reported_s:
                continue
            if len(self._reported_s) >= MAX_NOTICES:
                self._count_dropped()
                continue
            self._full = False
            self._reported_s[query.fingerprint] = now_s
            self._report(slow, query)

    def _report(self, slow: CriticalQuery, query: Query) -> None:
        execute_ms, limit_ms = slow.execute_us / 1000, CRITICAL_US / 1000
        facts: dict[str, str | float] = {
            "operation": query.operation,
            "fingerprint": query.fingerprint,
            "execute_ms": execute_ms,
            "threshold_ms": limit_ms,
            "trace_id": slow.trace_id.hex(),
            "instance": slow.instance,
            "not_emitted": self.not_emitted,
        }
        log.warning("slow_query_found", **facts)
        message = f"Slow query: {query.operation} took {execute_ms:.0f} ms, limit {limit_ms:.0f} ms"
        key = (RULE, query.fingerprint)
        self._notifier.send(Notice(RULE, "warning", message, key, query.operation, facts))

    def _count_dropped(self) -> None:
        self.not_emitted += 1
        if not self._full:
            self._full = True
            log.warning("slow_query_notices_limited", limit=MAX_NOTICES, within_s=WINDOW_S)
