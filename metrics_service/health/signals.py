"""What of a heartbeat may be added up or shown: nothing that costs more, or counts higher, than an
honest producer's.
"""

from __future__ import annotations

from typing import Final

from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2

COUNT_MAX: Final = 1 << 40
OPERATIONS_MAX: Final = 10
LABEL_MAX: Final = 200
BUCKETS_MAX: Final = 4096
BUCKET_NUMBER_MAX: Final = 10_000


def countable(
    signals: tracking_pb2.Signals,
) -> tuple[tracking_pb2.QueryCounts, list[tracking_pb2.OperationCounts]]:
    """The counts of a heartbeat, without a sketch or operations that make no sense; none at all
    where they make none themselves.
    """
    queries = signals.queries
    if not _sane_counts(queries):
        return tracking_pb2.QueryCounts(), []
    if not _sane_sketch(queries.execute_us):
        queries = tracking_pb2.QueryCounts()
        queries.CopyFrom(signals.queries)
        queries.ClearField("execute_us")
    operations = [
        operation
        for operation in signals.operations[:OPERATIONS_MAX]
        if len(operation.operation) <= LABEL_MAX
        and max(operation.total, operation.failed, operation.slow) <= COUNT_MAX
    ]
    return queries, operations


def monitor_cost(cost: tracking_pb2.MonitorCost) -> health_pb2.MonitorCost:
    """What a producer's monitoring costs it, each figure COUNT_MAX at most."""
    bounded = {
        name: min(getattr(cost, name), COUNT_MAX)
        for name in health_pb2.MonitorCost.DESCRIPTOR.fields_by_name
        if name != "overhead_us"
    }
    answer = health_pb2.MonitorCost(**bounded)
    if cost.overhead_ns:
        answer.overhead_us = min(cost.overhead_ns, COUNT_MAX) / 1000
    return answer


def _sane_counts(queries: tracking_pb2.QueryCounts) -> bool:
    parts = (
        queries.failed,
        queries.over_500ms,
        queries.at_least_1000ms,
        queries.over_1000ms,
        queries.at_least_2000ms,
        queries.over_2000ms,
    )
    return max(parts) <= queries.total <= COUNT_MAX


def _sane_sketch(sketch: tracking_pb2.Sketch) -> bool:
    if not len(sketch.index_delta) == len(sketch.count) <= BUCKETS_MAX:
        return False
    number = 0
    for delta in sketch.index_delta:
        number += delta
        if abs(number) > BUCKET_NUMBER_MAX:
            return False
    return True
