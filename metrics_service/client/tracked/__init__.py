"""Times every query that asyncpg runs, from the wait for a connection to the result, without
changing what a query does, returns or raises.
"""

from __future__ import annotations

from metrics_service.client.tracked.connection import TrackedConnection, connect
from metrics_service.client.tracked.operation import track_query, with_query_tracking
from metrics_service.client.tracked.pool import TrackedPool
from metrics_service.client.tracked.selftest import check_coverage
from metrics_service.client.tracked.tracker import Tracker, default_tracker, set_default_tracker

__all__ = [
    "TrackedConnection",
    "TrackedPool",
    "Tracker",
    "check_coverage",
    "connect",
    "default_tracker",
    "set_default_tracker",
    "track_query",
    "with_query_tracking",
]
