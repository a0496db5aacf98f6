"""Sums up what the monitoring costs a process, for its heartbeats."""

from __future__ import annotations

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import Tracker
from protos.tracking.v1 import tracking_pb2


def monitor_cost(
    tracker: Tracker, emitter: Emitter, inspector: QueryInspector | None = None
) -> tracking_pb2.MonitorCost:
    """Sum the cost of the parts since the process started. Bytes are estimated from the number of
    entries and the lengths of texts; the health window has a fixed size and is not included.
    """
    cost = tracker.cost()
    cost.bytes_held += emitter.bytes_held
    cost.dropped = emitter.dropped
    cost.evicted += emitter.evicted
    if inspector is not None:
        cost.looks = inspector.observations
        cost.looks_skipped = inspector.skipped
    return cost
