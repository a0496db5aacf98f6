"""Facts that wait at a process while the log stores none of them: their lane is forked, fenced or
stuck, although heartbeats arrive.
"""

from __future__ import annotations

from typing import Final

from metrics_service.client.host import Reason
from metrics_service.measure.thresholds import MISSED_HEARTBEATS
from servicekit.pauses import shift_by_pause

MIN_UNDELIVERED_S: Final = 3.0
"""A process counts its waiting facts about once a second, so a shorter time could blame one count
that is out of date.
"""


class Undelivered:
    """Judges the facts of one process at each of its heartbeats; `reason` is None unless they have
    waited for three of them. now_ns is monotonic, without pauses of this process.
    """

    __slots__ = ("_beats", "_limit_s", "_seq", "_since_ns", "reason")

    def __init__(self, heartbeat_s: float) -> None:
        self._limit_s = max(MISSED_HEARTBEATS * heartbeat_s, MIN_UNDELIVERED_S)
        self._since_ns: int | None = None
        self._beats = 0
        self._seq = 0
        self.reason: Reason | None = None

    def restart(self) -> None:
        """Begin again: a batch of facts was stored, none waits, or there is a new stream."""
        self._since_ns = None
        self.reason = None

    def on_heartbeat(self, pending: int, seq: int, now_ns: int) -> None:
        """Take how many facts wait at the process, and the number of the newest stored batch."""
        if not pending or seq > self._seq:
            self.restart()
        self._seq = max(self._seq, seq)
        if not pending:
            return
        if self._since_ns is None:
            self._since_ns, self._beats = now_ns, 0
            return
        self._beats += 1
        waited_s = (now_ns - self._since_ns) / 1e9
        if self._beats >= MISSED_HEARTBEATS and waited_s >= self._limit_s:
            message = f"none of {pending} facts was stored for {waited_s:.1f} s"
            self.reason = Reason("undelivered", waited_s, self._limit_s, pending, (), message)

    def shift(self, unpaused_ns: int, now_ns: int) -> None:
        """Leave out a pause of this process."""
        if self._since_ns is not None:
            self._since_ns = shift_by_pause(self._since_ns, unpaused_ns, now_ns)
