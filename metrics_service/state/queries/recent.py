"""The newest queries one by one: whole events are kept as they arrived and are parsed only when
read; bounded by number and by bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import nlargest
from itertools import accumulate, islice
from typing import Final

from metrics_service.state.queries.columns import TRACE_ID_BYTES
from metrics_service.state.queries.fingerprints import Fingerprints
from metrics_service.state.queries.limit import bounded_limit, fitting
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2
from protos.tracking.v1 import event_pb2

MAX_RECENT: Final = 5_000
# Ten times the usual size of MAX_RECENT queries: reached only if a producer sends oversized events.
MAX_BYTES: Final = 4_000_000

_TABLE: Final = "recent_queries"
_SQLSTATE_CHARS: Final = 5
_MAX_INT32: Final = (1 << 31) - 1


class RecentQueries:
    """Timings of the newest queries, in whole events."""

    tables = (_TABLE,)

    def __init__(self, *, max_recent: int = MAX_RECENT) -> None:
        self._max_recent = max_recent
        self._batches: deque[checkpoint_pb2.RecentBatch] = deque()
        self._count = 0
        self._bytes = 0

    def add(self, timings: event_pb2.QueryTimings, instance: str, start_us: list[int]) -> None:
        """Keep the timings of one event; start_us are the starts they were counted at if those
        differ from the reported ones, else empty.
        """
        count = len(timings.query)
        if not count:
            return
        kept = checkpoint_pb2.RecentBatch(
            instance=instance,
            timings=timings.SerializeToString(),
            count=count,
            start_us=start_us,
        )
        self._batches.append(kept)
        self._count += count
        self._bytes += len(kept.timings)
        while self._count - self._batches[0].count >= self._max_recent or (
            self._bytes > MAX_BYTES and len(self._batches) > 1
        ):
            oldest = self._batches.popleft()
            self._count -= oldest.count
            self._bytes -= len(oldest.timings)

    def newest(
        self, request: metrics_pb2.ListRecentQueriesRequest, fingerprints: Fingerprints
    ) -> list[metrics_pb2.RecentQuery]:
        """Return the requested queries, newest start first; of equal starts the last to arrive; at
        most MAX_ANSWER_BYTES in all.
        """
        limit = bounded_limit(request.limit)
        found = nlargest(
            limit,
            (
                (start_us, number, index)
                for number, batch in enumerate(self._batches)
                for start_us, index in _wanted(batch, request, fingerprints)
            ),
        )
        parsed = {
            number: TimingReader(
                event_pb2.QueryTimings.FromString(self._batches[number].timings),
                self._batches[number].instance,
            )
            for number in {number for _, number, _ in found}
        }
        queries = (
            parsed[number].query(index, start_us, fingerprints) for start_us, number, index in found
        )
        return list(fitting(queries, limit))

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the row of a checkpoint."""
        message = checkpoint_pb2.RecentTimings(batches=self._batches)
        yield _TABLE, 0, message.SerializeToString()

    def load(self, _section: str, _bucket: int, data: bytes) -> None:
        """Take back the row of dump()."""
        self._batches.extend(checkpoint_pb2.RecentTimings.FromString(data).batches)
        self._count = sum(batch.count for batch in self._batches)
        self._bytes = sum(len(batch.timings) for batch in self._batches)


class TimingReader:
    """Reads single queries out of the columns of one event."""

    def __init__(self, timings: event_pb2.QueryTimings, instance: str) -> None:
        self._timings = timings
        self._instance = instance
        self._trace_ids = {
            trace.index: trace.trace_id.hex()
            for trace in timings.traces
            if len(trace.trace_id) == TRACE_ID_BYTES
        }

    def query(
        self, index: int, start_us: int, fingerprints: Fingerprints
    ) -> metrics_pb2.RecentQuery:
        """Return the query at a position, with the start that it was counted at."""
        timings = self._timings
        query = fingerprints.resolve(timings.fingerprints[timings.query[index]])
        state = timings.sqlstate[index]
        answer = metrics_pb2.RecentQuery(
            operation=query.operation,
            fingerprint=query.fingerprint,
            text=query.text,
            pool_wait_ms=timings.pool_wait_us[index] / 1000,
            connect_ms=timings.connect_us[index] / 1000,
            cancel_wait_ms=timings.cancel_wait_us[index] / 1000,
            execute_ms=timings.execute_us[index] / 1000,
            rows=timings.rows[index],
            batch_size=min(timings.batch_size[index], _MAX_INT32),
            outcome=_OUTCOMES.get(timings.outcome[index], "unknown"),
            sqlstate=timings.sqlstates[state - 1][:_SQLSTATE_CHARS] if state else "",
            internal=timings.internal[index],
            trace_id=self._trace_ids.get(index, ""),
            instance=self._instance,
        )
        answer.start_time.FromMicroseconds(start_us)
        return answer


def _wanted(
    batch: checkpoint_pb2.RecentBatch,
    request: metrics_pb2.ListRecentQueriesRequest,
    fingerprints: Fingerprints,
) -> Iterator[tuple[int, int]]:
    """Yield (start_us, index) of the queries of a batch that a request selects."""
    timings = event_pb2.QueryTimings.FromString(batch.timings)
    asked = [
        not request.operation or fingerprints.resolve(fingerprint).operation == request.operation
        for fingerprint in timings.fingerprints
    ]
    starts_us = batch.start_us or islice(
        accumulate(timings.start_delta_us, initial=timings.base_time_us), 1, None
    )
    columns = zip(starts_us, timings.query, timings.internal, strict=True)
    for index, (start_us, query, internal) in enumerate(columns):
        if asked[query] and (request.include_internal or not internal):
            yield start_us, index


_OUTCOMES: Final = {
    number: name.removeprefix("QUERY_OUTCOME_").lower()
    for name, number in event_pb2.QueryOutcome.items()
    if number
}
