"""Observes queries while they run and captures the plans of slow ones, beside the pool: no failure
here reaches a query, and the cost is bounded.
"""

from __future__ import annotations

from metrics_service.client.inspector.inspector import SETTINGS, ObservationSink, QueryInspector

__all__ = ["SETTINGS", "ObservationSink", "QueryInspector"]
