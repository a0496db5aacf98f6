"""Query timings as columns, checked against each other before any query is counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from metrics_service.measure.thresholds import of_the_server
from metrics_service.state.truncate import MAX_CODE_BYTES
from protos.tracking.v1 import event_pb2

# A longer query means a broken clock.
MAX_DURATION_US: Final = 1 << 42
MAX_ROWS: Final = 1 << 42
TRACE_ID_BYTES: Final = 16

# How a query ended, for its statistics.
UNKNOWN, OK, ERROR, FAILED, CANCELLED, MISUSE = range(6)

# A key is the position of the fingerprint, the fate, and whether the query was internal.
FINGERPRINT_SHIFT: Final = 4
FATE_SHIFT: Final = 1
INTERNAL: Final = 1
FATE_BITS: Final = (1 << FINGERPRINT_SHIFT) - 1

_OK: Final = event_pb2.QUERY_OUTCOME_OK
_ERROR: Final = event_pb2.QUERY_OUTCOME_ERROR
_FATES: Final = {
    event_pb2.QUERY_OUTCOME_OK: OK,
    event_pb2.QUERY_OUTCOME_ERROR: ERROR,
    event_pb2.QUERY_OUTCOME_TIMEOUT: FAILED,
    event_pb2.QUERY_OUTCOME_CANCELLED: CANCELLED,
    event_pb2.QUERY_OUTCOME_CONNECTION_LOST: FAILED,
    event_pb2.QUERY_OUTCOME_MISUSE: MISUSE,
}


class InconsistentColumnsError(ValueError):
    """The columns of one event contradict each other."""


class Columns(NamedTuple):
    """Each list but `fingerprints` has one entry per query."""

    fingerprints: list[int]
    start_us: list[int]
    keys: list[int]
    execute_us: list[int]
    pool_wait_us: list[int]
    rows: list[int]

    def pick(self, wanted: list[int]) -> Columns:
        """Return the queries at the positions `wanted`."""
        fingerprints, *columns = self
        return Columns(fingerprints, *(list(picked(column, wanted)) for column in columns))


def picked(column: list[int], wanted: list[int]) -> Sequence[int]:
    """Return the entries at the positions `wanted`, at least one."""
    if len(wanted) == 1:
        return (column[wanted[0]],)
    entries: tuple[int, ...] = itemgetter(*wanted)(column)
    return entries


def read_columns(timings: event_pb2.QueryTimings) -> Columns:
    """Read an event. Raises InconsistentColumnsError where its columns contradict each other."""
    count = len(timings.query)
    if max(len(timings.fingerprints), len(timings.sqlstates)) > max(count, 1):
        raise InconsistentColumnsError("more fingerprints or sqlstates than timings")
    if any(len(state.encode()) > MAX_CODE_BYTES for state in timings.sqlstates):
        raise InconsistentColumnsError("an sqlstate is too long")
    if any(len(trace.trace_id) > TRACE_ID_BYTES for trace in timings.traces):
        raise InconsistentColumnsError("a trace id is too long")
    query = list(timings.query)
    outcome = list(timings.outcome)
    execute_us = list(timings.execute_us)
    pool_wait_us = list(timings.pool_wait_us)
    rows = list(timings.rows)
    internal = timings.internal
    sqlstate = timings.sqlstate
    fingerprints = list(timings.fingerprints)
    if not (
        len(outcome) == len(execute_us) == len(pool_wait_us) == len(rows) == count
        and len(internal) == len(sqlstate) == len(timings.start_delta_us) == count
        and len(timings.connect_us) == len(timings.cancel_wait_us) == count
        and len(timings.batch_size) == count
    ):
        raise InconsistentColumnsError("columns differ in length")
    if not count:
        return Columns(fingerprints, [], [], [], [], [])
    if max(query) >= len(fingerprints) or max(sqlstate) > len(timings.sqlstates):
        raise InconsistentColumnsError("a column points outside of its list")
    durations = (execute_us, pool_wait_us, timings.connect_us, timings.cancel_wait_us)
    if any(max(column) > MAX_DURATION_US for column in durations):
        raise InconsistentColumnsError("a duration is out of range")
    if max(rows) > MAX_ROWS:
        raise InconsistentColumnsError("a number of rows is out of range")
    start_us = list(accumulate(timings.start_delta_us, initial=timings.base_time_us))
    del start_us[0]
    if outcome.count(_OK) == count:
        ok = OK << FATE_SHIFT
        keys = [
            index << FINGERPRINT_SHIFT | ok | own
            for index, own in zip(query, internal, strict=True)
        ]
    else:
        states = ["", *timings.sqlstates]
        keys = [
            index << FINGERPRINT_SHIFT | _fate(ended, states[state]) << FATE_SHIFT | own
            for index, ended, state, own in zip(query, outcome, sqlstate, internal, strict=True)
        ]
    return Columns(fingerprints, start_us, keys, execute_us, pool_wait_us, rows)


def _fate(outcome: int, sqlstate: str) -> int:
    if outcome == _ERROR and of_the_server(sqlstate):
        return FAILED
    return _FATES.get(outcome, UNKNOWN)  # type: ignore[call-overload, no-any-return]


def correct_times(times_us: list[int], earliest_us: int, latest_us: int, instead_us: int) -> int:
    """Replace the times outside of a span, and return how many they were."""
    if earliest_us <= min(times_us) and max(times_us) <= latest_us:
        return 0
    possible = [earliest_us <= time_us <= latest_us for time_us in times_us]
    both = zip(times_us, possible, strict=True)
    times_us[:] = [time_us if ok else instead_us for time_us, ok in both]
    return possible.count(False)
