"""Every metric that metrics_service serves, beside those that all services have."""

from __future__ import annotations

from typing import Final

from metrics_service.state.counters import BOOKING_TIMES_US, POOL_WAITS_US
from metrics_service.state.queries.durations import BOUNDS_US
from servicekit.exposition import process, rpcs, spans
from servicekit.exposition.declare import Metric
from servicekit.exposition.exposition import FAILURES


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"farehold_{name}_total", "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"farehold_{name}", "gauge", text, labels)


def _histogram(name: str, text: str, bounds_us: tuple[int, ...], *labels: str) -> Metric:
    bounds_s = tuple(bound / 1e6 for bound in bounds_us)
    return Metric(f"farehold_{name}_seconds", "histogram", text, labels, bounds_s)


ROLE: Final = Metric(
    "farehold_role",
    "gauge",
    "1 for the role of this process: active serves figures; standby does not, since it waits to "
    "lead, has lost the lead, or still folds the log.",
    ("role",),
    everywhere=True,
)

# Of the log, up to one revision.
REVISION: Final = _gauge("state_revision", "The revision that the figures are of.")
AS_OF: Final = _gauge(
    "state_as_of_timestamp_seconds", "The time of the log that the figures are of."
)
BOOKINGS: Final = _counter("bookings", "Bookings, by what became of them.", "transition")
VIEWS: Final = _counter("package_views", "Views of packages.")
GROSS: Final = _counter("revenue_gross", "What was paid, in units of the currency.", "currency")
REFUNDED: Final = _counter(
    "revenue_refunded", "What was paid back, in units of the currency.", "currency"
)
PAID: Final = _counter(
    "revenue_bookings", "Bookings behind the gross revenue, for the average.", "currency"
)
ACTORS: Final = _gauge(
    "funnel_actors",
    "Actors of a window that took a step, the numerator of its rate; overall is from the first "
    "step to the last. live: those that entered in the window up to now; matured: in the newest "
    "window of which nobody is still under way.",
    *("step", "state", "window"),
)
PREVIOUS: Final = _gauge(
    "funnel_previous_actors",
    "Actors of a window that took the step before, the denominator.",
    *("step", "state", "window"),
)
OUTCOMES: Final = _gauge(
    "funnel_outcome_actors", "Actors of a window up to now, by outcome.", "outcome", "window"
)
BOOKING_TIMES: Final = _histogram(
    "booking_duration", "Times from the start of a booking to its completion.", BOOKING_TIMES_US
)
ERRORS: Final = _counter(
    "errors",
    "Refusals and failures; counted tells those that the error rate has.",
    *("reason", "kind", "counted"),
)
WRITES: Final = _counter("write_rpcs", "RPCs that change something, the error rate's denominator.")
LAST_ERRORS: Final = _gauge(
    "errors_last_5_minutes", "Counted errors of the last five minutes, exactly."
)
QUERIES: Final = _counter("db_queries", "Queries, by their end.", "operation", "outcome")
QUERY_TIMES: Final = _histogram(
    "db_query_duration",
    "Execute times of queries that ended ok, failed or in error; 0.5, 1.0 and 2.0 are exact, the "
    "other bounds within 2%.",
    BOUNDS_US,
    "operation",
)
SLOW: Final = _counter(
    "db_slow_queries",
    "Queries above 500 ms (warning) and above 1,000 ms (critical).",
    *("operation", "severity"),
)
ROWS: Final = _counter("db_rows", "Rows that queries returned or changed.", "operation")
POOL_WAITS: Final = _histogram(
    "db_pool_wait", "Times that queries waited for a connection of the pool.", POOL_WAITS_US
)
RPC_QUERIES: Final = _counter("rpc_queries", "Queries that RPCs ran.", "rpc")
RPC_CALLS: Final = _counter("rpc_calls", "RPCs whose queries are counted.", "rpc")
EVENTS: Final = _counter(
    "events", "Events: facts, telemetry, and what lanes say of themselves.", "class"
)
DUPLICATES: Final = _counter("events_duplicate", "Events that had arrived before.")
LATE: Final = _counter("events_late", "Events that came too late for the funnel.")
SKEWED: Final = _counter("events_skewed", "Events and queries whose time was impossible.")
DROPPED: Final = _counter("events_dropped", "Events and query timings that producers dropped.")
UNMATCHED: Final = _counter(
    "funnel_unmatched",
    "Events that extended no chain when they arrived; some may have done so later.",
    "step",
)
QUARANTINED: Final = _counter("batches_quarantined", "Batches that could not be counted.")
UNCLEAN_ENDS: Final = _counter("producer_unclean_ends", "Producers that ended without a goodbye.")
EVICTIONS: Final = _counter(
    "table_evictions", "What found no place in a table, and was counted in a sum.", "table"
)

# Of this process, now.
POOL: Final = _gauge("db_pool_connections", "Connections of a pool.", "producer", "state")
POOL_MAX: Final = _gauge(
    "db_pool_max_connections", "The most connections that a pool may have.", "producer"
)
POOL_WAITING: Final = _gauge("db_pool_waiting", "Callers that wait for a connection.", "producer")
HEALTH: Final = _gauge("db_health", "1 for the verdict on the database.", "status")
REASONS: Final = _gauge(
    "db_health_reason", "1 for each criterion that the verdict is for.", "criterion"
)
PROBE_UP: Final = _gauge("db_probe_up", "Whether the last probe reached the database.", "producer")
PROBE_TIME: Final = _gauge("db_probe_duration_seconds", "How long it took.", "producer")
HEARTBEAT: Final = _gauge(
    "producer_last_heartbeat_timestamp_seconds", "When a producer was last heard of.", "producer"
)
PENDING: Final = _gauge(
    "producer_facts_pending", "Facts that wait at the producer that delivers them.", "producer"
)
OVERHEAD: Final = _gauge(
    "monitor_overhead_seconds", "The time that recording adds to a query.", "producer"
)
HELD: Final = _gauge("monitor_held_bytes", "The size of a producer's buffers.", "producer")
LAG: Final = _gauge("log_lag_records", "Records of the log that are not counted yet.")
WRITABLE: Final = _gauge("log_writable", "Whether this process can write the log.")
CHECKPOINT: Final = _gauge(
    "checkpoint_timestamp_seconds", "The time of the log at the newest stored checkpoint."
)
ALERTS: Final = _gauge(
    "alerts",
    "1 for each state that an alert of a rule is in; suppressed: silenced or inhibited.",
    "rule",
    "severity",
    "state",
)
EVALUATED: Final = _gauge("alert_last_evaluation_timestamp_seconds", "When rules were judged.")
NOTIFICATIONS: Final = _counter(
    "alert_notifications",
    "Notifications taken by a target (sent), tries that came to nothing (failed), and those that "
    "were given up (dropped), since the process began.",
    *("target", "outcome"),
)
SILENCES: Final = _gauge("silences", "Silences that are active.")
READERS: Final = _gauge("stream_readers", "Readers of streams.", "transport")
DEPLOYMENTS: Final = _gauge(
    "deployment_timestamp_seconds", "When each of the newest five versions was deployed.", "version"
)

METRICS: Final = (
    *(ROLE, REVISION, AS_OF, BOOKINGS, VIEWS, GROSS, REFUNDED, PAID, ACTORS, PREVIOUS, OUTCOMES),
    *(BOOKING_TIMES, ERRORS, WRITES, LAST_ERRORS, QUERIES, QUERY_TIMES, SLOW, ROWS, POOL_WAITS),
    *(RPC_QUERIES, RPC_CALLS, EVENTS, DUPLICATES, LATE, SKEWED, DROPPED, UNMATCHED, QUARANTINED),
    *(UNCLEAN_ENDS, EVICTIONS, POOL, POOL_MAX, POOL_WAITING, HEALTH, REASONS, PROBE_UP, PROBE_TIME),
    *(HEARTBEAT, PENDING, OVERHEAD, HELD, LAG, WRITABLE, CHECKPOINT, ALERTS, EVALUATED),
    *(NOTIFICATIONS, SILENCES, READERS, DEPLOYMENTS),
    *(*rpcs.METRICS, *process.METRICS, spans.SPANS, FAILURES),
)
