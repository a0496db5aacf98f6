"""Running queries as producers saw them, cut to what is kept of them."""

from __future__ import annotations

from metrics_service.state.batch import MIN_TIME_US
from metrics_service.state.queries.columns import MAX_DURATION_US
from metrics_service.state.queries.fingerprints import KnownQueries
from metrics_service.state.queries.recent import TRACE_ID_BYTES
from metrics_service.state.series.rings import MINUTE_US
from metrics_service.state.truncate import MAX_NAME_BYTES, MAX_TEXT_BYTES, cut
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2

MAX_BLOCKERS = 5
# Start and age of a query may contradict the time it was looked at by so much.
_TOLERANCE_US = MINUTE_US


def running_query(
    running: event_pb2.RunningQuery, seen_us: int, instance: str, known: KnownQueries
) -> metrics_pb2.SlowQuery:
    """A query that was still running when it was looked at, as it is answered."""
    query = known.of(running.fingerprint)
    trace_id = running.trace_id
    answer = metrics_pb2.SlowQuery(
        query=metrics_pb2.RecentQuery(
            operation=query.operation,
            fingerprint=query.fingerprint,
            text=query.text,
            execute_ms=_ms(running.running_us),
            trace_id=trace_id.hex() if len(trace_id) == TRACE_ID_BYTES else "",
            instance=instance,
        ),
        running=True,
        look=look_of(running),
    )
    answer.query.start_time.FromMicroseconds(_start_us(running, seen_us))
    return answer


def look_of(running: event_pb2.RunningQuery) -> metrics_pb2.QueryLook:
    """What was seen of a query."""
    return metrics_pb2.QueryLook(
        running_ms=_ms(running.running_us),
        pid=running.pid,
        wait_event_type=cut(running.wait_event_type, MAX_NAME_BYTES),
        wait_event=cut(running.wait_event, MAX_NAME_BYTES),
        blockers=[_blocker(blocker) for blocker in running.blockers[:MAX_BLOCKERS]],
    )


def _start_us(running: event_pb2.RunningQuery, seen_us: int) -> int:
    """What the producer says, where that can be true."""
    told_us = running.start_time_us
    computed_us = seen_us - min(running.running_us, MAX_DURATION_US)
    start_us = told_us if abs(told_us - computed_us) <= _TOLERANCE_US else computed_us
    return max(start_us, MIN_TIME_US)


def _blocker(blocker: event_pb2.Blocker) -> metrics_pb2.Blocker:
    return metrics_pb2.Blocker(
        pid=blocker.pid,
        application_name=cut(blocker.application_name, MAX_NAME_BYTES),
        state=cut(blocker.state, MAX_NAME_BYTES),
        query=cut(blocker.query, MAX_TEXT_BYTES),
        transaction_ms=_ms(blocker.transaction_us),
        wait_event_type=cut(blocker.wait_event_type, MAX_NAME_BYTES),
        wait_event=cut(blocker.wait_event, MAX_NAME_BYTES),
    )


def _ms(duration_us: int) -> float:
    return min(duration_us, MAX_DURATION_US) / 1000
