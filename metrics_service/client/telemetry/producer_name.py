"""The name under which the telemetry of a process is numbered: that of its instance, until someone
else has taken that, and then one that nobody knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import structlog

from protos.tracking.v1 import tracking_pb2
from servicekit.handlers import LineLimit

log = structlog.get_logger()

SHOWN_S: Final = 60.0
"""How long heartbeats say that the name was taken."""

LOGGED_S: Final = 600.0


class ProducerName:
    """`id` is the current one. Epochs of telemetry are start times, so that another process of the
    name, a clock that was set back or a forged Hello may be ahead of this process for ever.
    """

    def __init__(self, instance: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.id = instance
        self._instance = instance
        self._monotonic_s = monotonic_s
        self._lines = LineLimit(monotonic_s, gap_s=LOGGED_S)
        self._taken_s: float | None = None

    def renew(self) -> None:
        """Take another name, since this one was taken."""
        self.id = os.urandom(16).hex()
        self._taken_s = self._monotonic_s()
        suppressed = self._lines.take()
        if suppressed is not None:
            log.warning("telemetry_fenced", instance=self._instance, suppressed=suppressed)

    def signal(self) -> tracking_pb2.LaneSignal:
        """Return what heartbeats say of the lane of telemetry."""
        taken_s = self._taken_s
        if taken_s is None or self._monotonic_s() - taken_s >= SHOWN_S:
            return tracking_pb2.LaneSignal(state=tracking_pb2.LaneSignal.OK)
        reason = f"another process has sent telemetry as {self._instance}; this one goes on"
        return tracking_pb2.LaneSignal(state=tracking_pb2.LaneSignal.FENCED, reason=reason)
