"""Times every query that asyncpg runs, from the wait for a connection to the result, without
changing what a query does, returns or raises.
"""

from __future__ import annotations

from metrics_service.client.tracked.connection import TrackedConnection, connect
from metrics_service.client.tracked.operation import track_query, with_query_tracking
from metrics_service.client.tracked.pool import TrackedPool
from metrics_service.client.tracked.pooler import PoolerError, check_session, set_session
from metrics_service.client.tracked.selftest import check_coverage
from metrics_service.client.tracked.tracker import Tracker, default_tracker, set_default_tracker

__all__ = [
    "PoolerError",
    "TrackedConnection",
    "TrackedPool",
    "Tracker",
    "check_coverage",
    "check_session",
    "connect",
    "default_tracker",
    "set_default_tracker",
    "set_session",
    "track_query",
    "with_query_tracking",
]
