"""Encodes query records as the columns of tracking.v1.QueryTimings, one entry per query in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metrics_service.client.queries.record import QueryDefinition, QueryRecord
from protos.tracking.v1 import event_pb2


def timings_of(records: Sequence[QueryRecord], offset_us: int) -> event_pb2.QueryTimings:
    """Encode the records, at least one, as columns; starts are shifted by offset_us, the database's
    clock minus the process's.
    """
    fingerprints: dict[int, int] = {}
    sqlstates: dict[str, int] = {}
    base_us = records[0].started_us + offset_us
    previous_us = records[0].started_us
    query: list[int] = []
    deltas: list[int] = []
    states: list[int] = []
    traces: list[event_pb2.QueryTrace] = []
    captures: list[event_pb2.QueryCapture] = []
    for index, record in enumerate(records):
        query.append(fingerprints.setdefault(record.fingerprint, len(fingerprints)))
        deltas.append(record.started_us - previous_us)
        previous_us = record.started_us
        code = record.sqlstate
        states.append(sqlstates.setdefault(code, len(sqlstates)) + 1 if code else 0)
        if record.trace_id:
            traces.append(event_pb2.QueryTrace(index=index, trace_id=record.trace_id))
        if record.capture_id:
            captures.append(event_pb2.QueryCapture(index=index, capture_id=record.capture_id))
    return event_pb2.QueryTimings(
        fingerprints=fingerprints,
        query=query,
        base_time_us=base_us,
        start_delta_us=deltas,
        pool_wait_us=[record.pool_wait_us for record in records],
        connect_us=[record.connect_us for record in records],
        cancel_wait_us=[record.cancel_wait_us for record in records],
        execute_us=[record.execute_us for record in records],
        rows=[record.rows for record in records],
        batch_size=[record.batch_size for record in records],
        outcome=[record.outcome for record in records],  # type: ignore[misc]  # same numbers
        sqlstate=states,
        sqlstates=sqlstates,
        internal=[record.internal for record in records],
        traces=traces,
        captures=captures,
    )


def definitions_of(definitions: Iterable[QueryDefinition]) -> event_pb2.QueryDefinitions:
    """Encode the definitions of fingerprints."""
    return event_pb2.QueryDefinitions(
        definitions=[
            event_pb2.QueryDefinition(
                fingerprint=definition.fingerprint,
                model=definition.model,
                operation=definition.operation,
                text=definition.text,
            )
            for definition in definitions
        ]
    )
