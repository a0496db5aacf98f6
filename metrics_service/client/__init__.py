"""The instrumentation library for any service that times its queries and reports its booking flow:
it streams both to metrics_service and never makes its caller wait. `client.host` has the rest.
"""

from __future__ import annotations

from metrics_service.client.booking.flow import BookingFlow
from metrics_service.client.booking.operations import BookingQueries, PackageQueries
from metrics_service.client.endpoints import (
    check_database_health,
    create_booking_metrics_endpoint,
)
from metrics_service.client.instrumentation import Instrumentation, flow, init
from metrics_service.client.queries.record import NamedQuery
from metrics_service.client.tracked import (
    TrackedConnection,
    TrackedPool,
    Tracker,
    check_coverage,
    connect,
    default_tracker,
    track_query,
    with_query_tracking,
)

__all__ = [
    "BookingFlow",
    "BookingQueries",
    "Instrumentation",
    "NamedQuery",
    "PackageQueries",
    "TrackedConnection",
    "TrackedPool",
    "Tracker",
    "check_coverage",
    "check_database_health",
    "connect",
    "create_booking_metrics_endpoint",
    "default_tracker",
    "flow",
    "init",
    "track_query",
    "with_query_tracking",
]
