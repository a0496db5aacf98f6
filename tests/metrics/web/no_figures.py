"""An answer without figures, for tests of the HTTP side."""

from __future__ import annotations

from metrics_service.state.series.rings import Window
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot


async def no_figures(_: Window) -> MetricsSnapshot:
    """Return an empty snapshot."""
    return MetricsSnapshot()
