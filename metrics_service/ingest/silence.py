"""How long the client of a tracking stream has said nothing, or nothing of use."""

from __future__ import annotations

import asyncio
from typing import Final

from metrics_service.measure.thresholds import MISSED_HEARTBEATS
from servicekit.pauses import PauseDetector

OVERDUE_HEARTBEATS: Final = 2


class Silence:
    """Measures the silence of one stream, pauses of this process not counted. Its session sets
    heard_s when it reads a frame.
    """

    def __init__(self, pauses: PauseDetector, heartbeat_s: float) -> None:
        self.limit_s = MISSED_HEARTBEATS * heartbeat_s
        self._overdue_s = OVERDUE_HEARTBEATS * heartbeat_s
        self._pauses = pauses
        self._greeted = False
        self._opened_s = self.heard_s = asyncio.get_running_loop().time()

    def start(self) -> None:
        """Watch for pauses until stop."""
        self._pauses.watch(self)

    def stop(self) -> None:
        """End the watch."""
        self._pauses.leave(self)

    def on_hello(self) -> None:
        """Note that the client has said a valid Hello."""
        self._greeted = True

    @property
    def overdue(self) -> bool:
        """Whether the heartbeats are late already."""
        return self._since_s(self.heard_s) > self._overdue_s

    @property
    def too_long(self) -> bool:
        """Whether the stream is to end: three heartbeats are missing, or a valid Hello after the
        time of three. What arrived during a pause is still to be read.
        """
        since_s = self.heard_s if self._greeted else self._opened_s
        return self._since_s(since_s) > self.limit_s

    def _since_s(self, moment_s: float) -> float:
        spent_s = asyncio.get_running_loop().time() - moment_s
        return self._pauses.unpaused_ns(int(spent_s * 1e9)) / 1e9
