"""Bounds what a heartbeat may bring: no count, number, sketch or list is larger than a correct
producer sends, and every number is finite and not negative.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from metrics_service.measure.sketch import Sketch
from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2

MAX_COUNT: Final = 1 << 40
MAX_OPERATIONS: Final = 10
MAX_BUDGETS: Final = 8
MAX_LABEL_BYTES: Final = 256
MAX_BUCKET_NUMBER: Final = 1_500
"""The bucket of about 100 days, in microseconds."""
MAX_BUCKETS: Final = MAX_BUCKET_NUMBER + 1

_RESULTS: Final = frozenset(tracking_pb2.Probe.Result.values())
_LANE_STATES: Final = frozenset(tracking_pb2.LaneSignal.State.values())
_LANES: Final[tuple[Literal["lane", "telemetry"], ...]] = ("lane", "telemetry")
_POOL: Final = tuple(tracking_pb2.PoolGauges.DESCRIPTOR.fields_by_name)
_MONITOR: Final = tuple(tracking_pb2.MonitorCost.DESCRIPTOR.fields_by_name)


def displayable(signals: tracking_pb2.Signals) -> tracking_pb2.Signals:
    """Return the gauges of a heartbeat, each between 0 and MAX_COUNT; an unknown result of the
    probe is none. What is counted is left out.
    """
    shown = tracking_pb2.Signals()
    if signals.HasField("probe") and signals.probe.result in _RESULTS:
        shown.probe.result = signals.probe.result
        shown.probe.latency_us = _bounded(signals.probe.latency_us)
        shown.probe.age_ms = _bounded(signals.probe.age_ms)
    for name in _POOL:
        setattr(shown.pool, name, _bounded(getattr(signals.pool, name)))
    shown.delivers_facts = signals.delivers_facts
    if signals.HasField("facts_pending"):
        shown.facts_pending = _bounded(signals.facts_pending)
    for name in _LANES:
        lane = getattr(signals, name)
        if signals.HasField(name) and lane.state in _LANE_STATES:
            told = tracking_pb2.LaneSignal(state=lane.state, reason=_label(lane.reason))
            getattr(shown, name).CopyFrom(told)
    if signals.HasField("facts_withheld"):
        shown.facts_withheld = _bounded(signals.facts_withheld)
    shown.over_budget.extend(_label(line) for line in signals.over_budget[:MAX_BUDGETS])
    if signals.HasField("monitor"):
        shown.monitor.SetInParent()
        for name in _MONITOR:
            setattr(shown.monitor, name, _bounded(getattr(signals.monitor, name)))
    return shown


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
        queries = without_sketch(queries)
    operations = [
        operation
        for operation in signals.operations[:MAX_OPERATIONS]
        if len(operation.operation.encode()) <= MAX_LABEL_BYTES
        and max(operation.total, operation.failed, operation.slow) <= MAX_COUNT
    ]
    return queries, operations


def without_sketch(queries: tracking_pb2.QueryCounts) -> tracking_pb2.QueryCounts:
    """Return the exact counts alone."""
    return tracking_pb2.QueryCounts(
        total=queries.total,
        failed=queries.failed,
        over_500ms=queries.over_500ms,
        at_least_1000ms=queries.at_least_1000ms,
        over_1000ms=queries.over_1000ms,
        at_least_2000ms=queries.at_least_2000ms,
        over_2000ms=queries.over_2000ms,
    )


def monitor_cost(cost: tracking_pb2.MonitorCost) -> health_pb2.MonitorCost:
    """Return what monitoring costs a producer, from gauges that are displayable."""
    figures = {
        name: getattr(cost, name)
        for name in health_pb2.MonitorCost.DESCRIPTOR.fields_by_name
        if name != "overhead_us"
    }
    answer = health_pb2.MonitorCost(**figures)
    if cost.overhead_ns:
        answer.overhead_us = cost.overhead_ns / 1000
    return answer


def _label(text: str) -> str:
    return text.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


def _bounded(number: int) -> int:
    return min(max(number, 0), MAX_COUNT)


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
    """Whether its values are finite, in order and not negative, and its buckets ascend."""
    # Each comparison with NaN is false.
    if not (0 <= sketch.min <= sketch.max <= MAX_COUNT and 0 <= sketch.sum < math.inf):
        return False
    if not len(sketch.index_delta) == len(sketch.count) <= MAX_BUCKETS:
        return False
    if sketch.zero_count + sum(sketch.count) > MAX_COUNT:
        return False
    number = -1
    for place, delta in enumerate(sketch.index_delta):
        before, number = number, delta if place == 0 else number + delta
        if not before < number <= MAX_BUCKET_NUMBER:
            return False
    try:
        Sketch.from_proto(sketch)
    except ValueError:
        return False
    return True
