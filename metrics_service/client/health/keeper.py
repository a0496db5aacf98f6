"""Holds a verdict against flapping: worse shows after a short while, or at once when it is hard;
better shows only after it has lasted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from metrics_service.client.health.judge import DEFAULT, Criteria, Reason, Status, Verdict

_SEVERITY = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2, Status.STALE: 2}


class VerdictKeeper:
    """The status as it is shown, with its reasons and since when (UTC microseconds)."""

    def __init__(
        self,
        criteria: Criteria = DEFAULT,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        self._criteria = criteria
        self._monotonic_ns = monotonic_ns
        self._now_us = now_us or _now_us
        self.status = Status.UNKNOWN
        self.reasons: tuple[Reason, ...] = ()
        self.since_us = self._now_us()
        self._worse_since_ns: int | None = None
        self._better_since_ns: int | None = None
        # The worst verdict of the time that has to be good before the status improves.
        self._improved: Verdict | None = None

    def update(self, verdict: Verdict) -> bool:
        """Take the verdict of now; True when the status or the criteria not met have changed."""
        before = self._shown()
        now_ns = self._monotonic_ns()
        if Status.UNKNOWN in (self.status, verdict.status) or Status.STALE in (
            self.status,
            verdict.status,
        ):
            # Whether anything is known at all is no matter of degree.
            self._show(verdict)
        elif verdict.status is self.status:
            self._show(verdict)
        elif _SEVERITY[verdict.status] > _SEVERITY[self.status]:
            self._worse(verdict, now_ns)
        else:
            self._better(verdict, now_ns)
        return before != self._shown()

    def _shown(self) -> tuple[Status, list[str]]:
        return self.status, [reason.criterion for reason in self.reasons]

    def _show(self, verdict: Verdict) -> None:
        if verdict.status is not self.status:
            self.status = verdict.status
            self.since_us = self._now_us()
        self.reasons = verdict.reasons
        self._worse_since_ns = self._better_since_ns = self._improved = None

    def _worse(self, verdict: Verdict, now_ns: int) -> None:
        self._better_since_ns = self._improved = None
        if self._worse_since_ns is None:
            self._worse_since_ns = now_ns
        held_ns = now_ns - self._worse_since_ns
        if verdict.hard or held_ns >= self._criteria.worse_after_s * 1e9:
            self._show(verdict)

    def _better(self, verdict: Verdict, now_ns: int) -> None:
        self._worse_since_ns = None
        if self._better_since_ns is None or self._improved is None:
            self._better_since_ns = now_ns
            self._improved = verdict
        elif _SEVERITY[verdict.status] >= _SEVERITY[self._improved.status]:
            self._improved = verdict
        if now_ns - self._better_since_ns >= self._criteria.better_after_s * 1e9:
            self._show(self._improved)
            if verdict.status is not self.status:
                # Half way up: the rest of the way begins now.
                self._better_since_ns, self._improved = now_ns, verdict


def _now_us() -> int:
    return time.time_ns() // 1000
