"""Looks at queries while they run, and at the plans of slow ones, beside the pool: nothing that
goes wrong here reaches a query, and what it may cost is bounded.
"""

from __future__ import annotations

from metrics_service.client.inspector.inspector import SETTINGS, LookSink, QueryInspector

__all__ = ["SETTINGS", "LookSink", "QueryInspector"]
