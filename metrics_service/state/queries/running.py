"""Converts observations of running queries; each text is truncated to its bound."""

from __future__ import annotations

from typing import Final

from metrics_service.state.queries.columns import MAX_DURATION_US, TRACE_ID_BYTES
from metrics_service.state.queries.fingerprints import Fingerprints
from metrics_service.state.record import MIN_TIME_US
from metrics_service.state.series.rings import MINUTE_US
from metrics_service.state.truncate import MAX_NAME_BYTES, MAX_TEXT_BYTES, truncate
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2

MAX_BLOCKERS: Final = 5
# How far a query's reported start may differ from its observation time minus its age.
_TOLERANCE_US: Final = MINUTE_US


def read_running_query(
    running: event_pb2.RunningQuery, observed_us: int, instance: str, fingerprints: Fingerprints
) -> metrics_pb2.SlowQuery:
    """Convert a running query to the message of the answers."""
    query = fingerprints.resolve(running.fingerprint)
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
        look=read_observation(running),
    )
    answer.query.start_time.FromMicroseconds(_start_us(running, observed_us))
    return answer


def read_observation(running: event_pb2.RunningQuery) -> metrics_pb2.QueryLook:
    """Convert what was observed of a running query."""
    return metrics_pb2.QueryLook(
        running_ms=_ms(running.running_us),
        pid=running.pid,
        wait_event_type=truncate(running.wait_event_type, MAX_NAME_BYTES),
        wait_event=truncate(running.wait_event, MAX_NAME_BYTES),
        blockers=[_blocker(blocker) for blocker in running.blockers[:MAX_BLOCKERS]],
    )


def _start_us(running: event_pb2.RunningQuery, observed_us: int) -> int:
    """Return the reported start if it is plausible, else the observation time minus the age."""
    reported_us = running.start_time_us
    computed_us = observed_us - min(running.running_us, MAX_DURATION_US)
    start_us = reported_us if abs(reported_us - computed_us) <= _TOLERANCE_US else computed_us
    return max(start_us, MIN_TIME_US)


def _blocker(blocker: event_pb2.Blocker) -> metrics_pb2.Blocker:
    return metrics_pb2.Blocker(
        pid=blocker.pid,
        application_name=truncate(blocker.application_name, MAX_NAME_BYTES),
        state=truncate(blocker.state, MAX_NAME_BYTES),
        query=truncate(blocker.query, MAX_TEXT_BYTES),
        transaction_ms=_ms(blocker.transaction_us),
        wait_event_type=truncate(blocker.wait_event_type, MAX_NAME_BYTES),
        wait_event=truncate(blocker.wait_event, MAX_NAME_BYTES),
    )


def _ms(duration_us: int) -> float:
    return min(duration_us, MAX_DURATION_US) / 1000
