"""The slowest queries ever ended and those that still run: what each waited for, who held the lock,
and the newest plan of its fingerprint; every table is bounded.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from heapq import nlargest
from itertools import chain
from typing import Final, NamedTuple

from metrics_service.measure.thresholds import SLOW_US
from metrics_service.state.queries.columns import (
    FATE_BITS,
    FATE_SHIFT,
    INTERNAL,
    MISUSE,
    Columns,
)
from metrics_service.state.queries.fingerprints import Fingerprints
from metrics_service.state.queries.limit import bounded_limit, fitting
from metrics_service.state.queries.recent import TimingReader
from metrics_service.state.queries.running import read_observation, read_running_query
from metrics_service.state.recent_keys import RecentKeys
from metrics_service.state.record import LogRecord
from metrics_service.state.series.rings import HOUR_US
from metrics_service.state.truncate import MAX_PLAN_BYTES, truncate_at_line
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2
from protos.tracking.v1 import event_pb2

MAX_ENDED: Final = 200
MAX_RUNNING: Final = 200
MAX_PLANS: Final = 200
# A running query is dropped this long after its last observation: its end was lost.
MAX_UNOBSERVED_US: Final = HOUR_US

_TABLE: Final = "slow_queries"
_ENDED, _RUNNING, _PLANS = (f"{_TABLE}.{part}" for part in ("ended", "running", "plans"))
# Observations travel apart from timings and may arrive after the end; these keys identify them.
_SEEN: Final = "seen_captures"
_MAX_SEEN_CAPTURES: Final = 2_048


class _Capture(NamedTuple):
    """Identifies an observed query."""

    instance: str
    epoch: int
    capture_id: int


class SlowestQueries:
    """Queries whose execution takes or took more than SLOW_US, without internal ones."""

    tables = (_TABLE, _SEEN)

    def __init__(self) -> None:
        # Slowest first; of equal ones the first to arrive.
        self._ended: list[checkpoint_pb2.KeptQuery] = []
        # In the order of their last observations.
        self._running: dict[_Capture, checkpoint_pb2.KeptQuery] = {}
        # In the order of arrival.
        self._plans: dict[int, event_pb2.QueryPlan] = {}
        self._evicted = {_ENDED: 0, _RUNNING: 0, _PLANS: 0}
        self._seen = RecentKeys(_SEEN, _MAX_SEEN_CAPTURES)
        self._now_us = 0

    def observe(
        self,
        running: event_pb2.RunningQuery,
        observed_us: int,
        record: LogRecord,
        fingerprints: Fingerprints,
    ) -> None:
        """Keep the newest observation of a running query. One without a capture_id is ignored: its
        end could not be matched to it.
        """
        if not running.capture_id:
            return
        self.drop(record.instance, record.epoch)
        capture = _Capture(record.instance, record.epoch, running.capture_id)
        if self._seen.flags(_text(capture)):
            self._observe_ended(capture, running)
            return
        self._running.pop(capture, None)
        self._running[capture] = checkpoint_pb2.KeptQuery(
            query=read_running_query(running, observed_us, record.instance, fingerprints),
            epoch=record.epoch,
            capture_id=running.capture_id,
            looked_us=self._now_us,
        )
        if len(self._running) > MAX_RUNNING:
            del self._running[next(iter(self._running))]
            self._evicted[_RUNNING] += 1

    def add_ended(
        self,
        timings: event_pb2.QueryTimings,
        columns: Columns,
        record: LogRecord,
        fingerprints: Fingerprints,
    ) -> None:
        """Add queries that ended. `columns` are those of `timings`, with corrected starts."""
        self.drop(record.instance, record.epoch)
        captures = self._end(timings, record)
        execute_us = columns.execute_us
        if max(execute_us, default=0) <= SLOW_US:
            return
        slow = [
            index
            for index, (took_us, key) in enumerate(zip(execute_us, columns.keys, strict=True))
            if took_us > SLOW_US
            and not key & INTERNAL
            and (key & FATE_BITS) >> FATE_SHIFT != MISUSE
        ]
        before = len(self._ended)
        reader = TimingReader(timings, record.instance)
        for index in nlargest(MAX_ENDED, slow, key=execute_us.__getitem__):
            if len(self._ended) == MAX_ENDED:
                if execute_us[index] / 1000 <= _execute_ms(self._ended[-1]):
                    break
                self._ended.pop()
            query = reader.query(index, columns.start_us[index], fingerprints)
            kept = checkpoint_pb2.KeptQuery(query=metrics_pb2.SlowQuery(query=query))
            if index in captures:
                kept.epoch = record.epoch
                kept.capture_id, observation = captures[index]
                if observation is not None:
                    kept.query.look.CopyFrom(observation)
            insort(self._ended, kept, key=lambda each: -_execute_ms(each))
        self._evicted[_ENDED] += before + len(slow) - len(self._ended)

    def add_plan(self, plan: event_pb2.QueryPlan) -> None:
        """Keep the newest plan of a fingerprint."""
        text = truncate_at_line(plan.plan, MAX_PLAN_BYTES)
        if not text:
            return
        self._plans.pop(plan.fingerprint, None)
        self._plans[plan.fingerprint] = event_pb2.QueryPlan(fingerprint=plan.fingerprint, plan=text)
        if len(self._plans) > MAX_PLANS:
            del self._plans[next(iter(self._plans))]
            self._evicted[_PLANS] += 1

    def drop(self, instance: str, epoch: int) -> None:
        """Drop the running queries that an instance began before this epoch: its process ended."""
        if self._running:
            for capture in [each for each in self._running if each.instance == instance]:
                if capture.epoch < epoch:
                    del self._running[capture]

    def advance(self, now_us: int) -> None:
        """Advance the clock; queries without a recent observation are dropped, and where it goes
        back all of them: none can be told to be recent.
        """
        if now_us < self._now_us:
            self._running.clear()
        self._now_us = now_us
        while self._running:
            capture, kept = next(iter(self._running.items()))
            if kept.looked_us > now_us - MAX_UNOBSERVED_US:
                return
            del self._running[capture]

    def slowest(
        self, request: metrics_pb2.ListSlowQueriesRequest, fingerprints: Fingerprints
    ) -> list[metrics_pb2.SlowQuery]:
        """Return the requested queries: running ones, longest first, then ended ones, slowest
        first; at most MAX_ANSWER_BYTES in all.
        """
        running = sorted(self._running.values(), key=lambda kept: -_execute_ms(kept))
        found = (self._answer(kept.query, fingerprints) for kept in chain(running, self._ended))
        wanted = request.operation
        asked = (query for query in found if wanted in ("", query.query.operation))
        return list(fitting(asked, bounded_limit(request.limit)))

    def evicted(self) -> dict[str, int]:
        """Return what did not fit into the tables."""
        return {
            "slow_queries": self._evicted[_ENDED],
            "running_queries": self._evicted[_RUNNING],
            "query_plans": self._evicted[_PLANS],
        }

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        for section, rows in (
            (_ENDED, checkpoint_pb2.SlowQueries(queries=self._ended)),
            (_RUNNING, checkpoint_pb2.SlowQueries(queries=self._running.values())),
            (_PLANS, checkpoint_pb2.SlowQueries(plans=self._plans.values())),
        ):
            rows.evicted = self._evicted[section]
            yield section, 0, rows.SerializeToString()
        yield from self._seen.dump()

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump(). Raises KeyError for an unknown section."""
        if section.startswith(f"{_SEEN}."):
            self._seen.load(section, bucket, data)
            return
        rows = checkpoint_pb2.SlowQueries.FromString(data)
        self._evicted = {**self._evicted, section: rows.evicted}
        if section == _ENDED:
            self._ended = list(rows.queries)
        elif section == _RUNNING:
            self._running = {_capture_of(kept): kept for kept in rows.queries}
        elif section == _PLANS:
            self._plans = {plan.fingerprint: plan for plan in rows.plans}
        else:
            raise KeyError(section)

    def _end(
        self, timings: event_pb2.QueryTimings, record: LogRecord
    ) -> dict[int, tuple[int, metrics_pb2.QueryLook | None]]:
        """Return (capture_id, last observation) of the observed queries, by position."""
        found: dict[int, tuple[int, metrics_pb2.QueryLook | None]] = {}
        for named in timings.captures:
            if named.capture_id and named.index < len(timings.query):
                capture = _Capture(record.instance, record.epoch, named.capture_id)
                self._seen.mark(_text(capture))
                kept = self._running.pop(capture, None)
                found[named.index] = (named.capture_id, kept.query.look if kept else None)
        return found

    def _observe_ended(self, capture: _Capture, running: event_pb2.RunningQuery) -> None:
        for kept in self._ended:
            if kept.capture_id == capture.capture_id and _capture_of(kept) == capture:
                kept.query.look.CopyFrom(read_observation(running))

    def _answer(
        self, slow: metrics_pb2.SlowQuery, fingerprints: Fingerprints
    ) -> metrics_pb2.SlowQuery:
        answer = metrics_pb2.SlowQuery()
        answer.CopyFrom(slow)
        fingerprint = int(slow.query.fingerprint, 16)
        # The definition may have arrived after the query ended, or may have been evicted since.
        query = fingerprints.find(fingerprint)
        if query is not None:
            answer.query.operation, answer.query.text = query.operation, query.text
        plan = self._plans.get(fingerprint)
        if plan is not None:
            answer.plan = plan.plan
        return answer


def _execute_ms(kept: checkpoint_pb2.KeptQuery) -> float:
    return kept.query.query.execute_ms


def _capture_of(kept: checkpoint_pb2.KeptQuery) -> _Capture:
    return _Capture(kept.query.query.instance, kept.epoch, kept.capture_id)


def _text(capture: _Capture) -> str:
    return f"{capture.epoch} {capture.capture_id} {capture.instance}"
