"""What a process needs beyond `metrics_service.client` if it owns lanes of the tracking stream,
judges the health of its database, counts queries per RPC or writes its own query sink. Outside the
client, only these two modules are imported.
"""

from __future__ import annotations

from metrics_service.client.cost import monitor_cost
from metrics_service.client.health import (
    WINDOW_S,
    Criteria,
    Figures,
    HealthWindow,
    Reason,
    Status,
    Verdict,
    VerdictHysteresis,
    judge,
    with_budgets,
)
from metrics_service.client.inspector import QueryInspector
from metrics_service.client.queries.count import QueryCount, count_queries, share_queries
from metrics_service.client.queries.record import (
    Outcome,
    QueryDefinition,
    QueryRecord,
    QuerySink,
)
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.stream.source import (
    ForkError,
    LaneDrained,
    LaneSource,
    NewEpoch,
    OutBatch,
)
from metrics_service.client.telemetry.emitter import Emitter, instance_name
from metrics_service.client.tracked import (
    PoolerError,
    check_session,
    set_default_tracker,
    set_session,
)

__all__ = [
    "WINDOW_S",
    "Criteria",
    "Emitter",
    "Figures",
    "ForkError",
    "HealthWindow",
    "LaneDrained",
    "LaneSource",
    "NewEpoch",
    "OutBatch",
    "Outcome",
    "PoolerError",
    "QueryCount",
    "QueryDefinition",
    "QueryInspector",
    "QueryRecord",
    "QuerySink",
    "Reason",
    "Status",
    "StreamClient",
    "Verdict",
    "VerdictHysteresis",
    "check_session",
    "count_queries",
    "instance_name",
    "judge",
    "monitor_cost",
    "set_default_tracker",
    "set_session",
    "share_queries",
    "with_budgets",
]
