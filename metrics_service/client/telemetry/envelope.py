"""Puts telemetry events into their envelope."""

from __future__ import annotations

import os
from typing import Final

from protos.tracking.v1 import event_pb2

Body = (
    event_pb2.PackageViewed
    | event_pb2.RpcRefused
    | event_pb2.RpcTally
    | event_pb2.FlowStep
    | event_pb2.QueryTimings
    | event_pb2.QueryDefinitions
    | event_pb2.RunningQuery
    | event_pb2.QueryPlan
    | event_pb2.TelemetryLoss
)
"""A telemetry event without its envelope."""


def envelope(time_us: int, session_id: str, body: Body) -> event_pb2.Event:
    """Make an event with a random id; time_us is by the database's clock."""
    event = event_pb2.Event(event_id=os.urandom(16), time_us=time_us, session_id=session_id)
    getattr(event, _FIELDS[type(body)]).CopyFrom(body)
    return event


_FIELDS: Final[dict[type, str]] = {
    event_pb2.PackageViewed: "package_viewed",
    event_pb2.RpcRefused: "rpc_refused",
    event_pb2.RpcTally: "rpc_tally",
    event_pb2.FlowStep: "flow_step",
    event_pb2.QueryTimings: "query_timings",
    event_pb2.QueryDefinitions: "query_definitions",
    event_pb2.RunningQuery: "running_query",
    event_pb2.QueryPlan: "query_plan",
    event_pb2.TelemetryLoss: "telemetry_loss",
}
