"""Bounds what a heartbeat may add to figures: no count, sketch or list is larger than a correct
producer sends.
"""

from __future__ import annotations

from typing import Final

from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2

MAX_COUNT: Final = 1 << 40
MAX_OPERATIONS: Final = 10
MAX_LABEL_CHARS: Final = 200
MAX_BUCKETS: Final = 4096
MAX_BUCKET_NUMBER: Final = 10_000


def countable(
    signals: tracking_pb2.Signals,
) -> tuple[tracking_pb2.QueryCounts, list[tracking_pb2.OperationCounts]]:
    """Drop an invalid sketch and invalid operations of a heartbeat, or everything when its counts
    are invalid themselves.
    """
    queries = signals.queries
    if not _are_valid_counts(queries):
        return tracking_pb2.QueryCounts(), []
    if not _is_valid_sketch(queries.execute_us):
        queries = tracking_pb2.QueryCounts()
        queries.CopyFrom(signals.queries)
        queries.ClearField("execute_us")
    operations = [
        operation
        for operation in signals.operations[:MAX_OPERATIONS]
        if len(operation.operation) <= MAX_LABEL_CHARS
        and max(operation.total, operation.failed, operation.slow) <= MAX_COUNT
    ]
    return queries, operations


def monitor_cost(cost: tracking_pb2.MonitorCost) -> health_pb2.MonitorCost:
    """Return what monitoring costs a producer, each figure at most MAX_COUNT."""
    bounded = {
        name: min(getattr(cost, name), MAX_COUNT)
        for name in health_pb2.MonitorCost.DESCRIPTOR.fields_by_name
        if name != "overhead_us"
    }
    answer = health_pb2.MonitorCost(**bounded)
    if cost.overhead_ns:
        answer.overhead_us = min(cost.overhead_ns, MAX_COUNT) / 1000
    return answer


def _are_valid_counts(queries: tracking_pb2.QueryCounts) -> bool:
    parts = (
        queries.failed,
        queries.over_500ms,
        queries.at_least_1000ms,
        queries.over_1000ms,
        queries.at_least_2000ms,
        queries.over_2000ms,
    )
    return max(parts) <= queries.total <= MAX_COUNT


def _is_valid_sketch(sketch: tracking_pb2.Sketch) -> bool:
    if not len(sketch.index_delta) == len(sketch.count) <= MAX_BUCKETS:
        return False
    number = 0
    for delta in sketch.index_delta:
        number += delta
        if abs(number) > MAX_BUCKET_NUMBER:
            return False
    return True
