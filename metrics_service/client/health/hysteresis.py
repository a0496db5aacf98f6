"""Protects a verdict against flapping: a hard failure shows at once, any other change only after it
has lasted and a minimum time after the previous change. Missing heartbeats also show at once, but
never improve the status.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from metrics_service.client.health.judge import DEFAULT, Criteria, Reason, Status, Verdict
from servicekit.clock import wall_us

_SEVERITY: Final = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2}
_SILENT: Final = frozenset({Status.UNKNOWN, Status.STALE})


class VerdictHysteresis:
    """The status that is shown, its reasons, whether they had to show at once, and since when, in
    UTC microseconds.
    """

    def __init__(
        self,
        criteria: Criteria = DEFAULT,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        self._criteria = criteria
        self._monotonic_ns = monotonic_ns
        self._now_us = now_us or wall_us
        self.status = Status.UNKNOWN
        self.reasons: tuple[Reason, ...] = ()
        self.hard = False
        self.since_us = self._now_us()
        # What was shown when heartbeats stopped.
        self._before_silence: Verdict | None = None
        # The newest change for the worse or the better.
        self._turned_ns: int | None = None
        self._worse_since_ns: int | None = None
        # Since when no verdict was worse than each of these, and the newest verdict of each.
        self._good_since_ns: dict[Status, int] = {}
        self._newest: dict[Status, Verdict] = {}

    def update(self, verdict: Verdict) -> bool:
        """Take the current verdict; return whether the status or the unmet criteria changed."""
        before = self._shown()
        now_ns = self._monotonic_ns()
        self._note(verdict, now_ns)
        if verdict.status in _SILENT:
            self._silent(verdict)
        elif self.status in _SILENT:
            self._heard(verdict, now_ns)
        elif verdict.status is self.status:
            self._show(verdict)
        elif _SEVERITY[verdict.status] > _SEVERITY[self.status]:
            self._worse(verdict, now_ns)
        else:
            self._better(now_ns)
        return before != self._shown()

    def _shown(self) -> tuple[Status, list[str]]:
        return self.status, [reason.criterion for reason in self.reasons]

    def _note(self, verdict: Verdict, now_ns: int) -> None:
        self._newest[verdict.status] = verdict
        for status in (Status.HEALTHY, Status.DEGRADED):
            if _SEVERITY.get(verdict.status, 2) <= _SEVERITY[status]:
                self._good_since_ns.setdefault(status, now_ns)
            else:
                self._good_since_ns.pop(status, None)

    def _silent(self, verdict: Verdict) -> None:
        """Show UNKNOWN or STALE, which have no severity."""
        if verdict.status is Status.UNKNOWN:
            self._before_silence = None
        elif self.status not in _SILENT:
            self._before_silence = Verdict(self.status, self.reasons, self.hard)
        self._show(verdict)

    def _heard(self, verdict: Verdict, now_ns: int) -> None:
        """Show a verdict after silence: at first nothing better than what was shown before."""
        before = self._before_silence
        if before is not None and _SEVERITY[before.status] >= _SEVERITY[verdict.status]:
            self._show(verdict if before.status is verdict.status else before)
        elif verdict.status is Status.HEALTHY:
            self._show(verdict)
        else:
            self._turn(verdict, now_ns)

    def _show(self, verdict: Verdict) -> None:
        if verdict.status is not self.status:
            self.status = verdict.status
            self.since_us = self._now_us()
        self.reasons = verdict.reasons
        self.hard = verdict.hard
        self._worse_since_ns = None

    def _turn(self, verdict: Verdict, now_ns: int) -> None:
        self._turned_ns = now_ns
        self._show(verdict)

    def _worse(self, verdict: Verdict, now_ns: int) -> None:
        if self._worse_since_ns is None:
            self._worse_since_ns = now_ns
        held = now_ns - self._worse_since_ns >= self._criteria.worse_after_s * 1e9
        if verdict.hard or (held and self._gap_over(now_ns)):
            self._turn(verdict, now_ns)

    def _better(self, now_ns: int) -> None:
        self._worse_since_ns = None
        if not self._gap_over(now_ns):
            return
        for status, since_ns in sorted(self._good_since_ns.items()):
            better = _SEVERITY[status] < _SEVERITY[self.status]
            if better and now_ns - since_ns >= self._criteria.better_after_s * 1e9:
                self._turn(self._newest[status], now_ns)
                return

    def _gap_over(self, now_ns: int) -> bool:
        turned_ns = self._turned_ns
        return turned_ns is None or now_ns - turned_ns >= self._criteria.gap_s * 1e9
