"""Facts that no process delivers: of a watched service that runs, none leads the delivery, so that
nobody reports how many wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from metrics_service.client.host import Reason, Status, Verdict, VerdictHysteresis
from metrics_service.health.instance import Instance
from metrics_service.measure.thresholds import MISSED_HEARTBEATS
from protos.tracking.v1 import tracking_pb2
from servicekit.pauses import shift_by_pause

MIN_LEADERLESS_S: Final = 30.0
"""Another process takes over from one that was killed within a second or two, and from one that is
frozen once the database has ended its session, after ten.
"""


class Leaderless:
    """Judges the watched services whose processes deliver facts, each by all of its processes.

    While none of them reaches its database there is nothing to deliver. Times are monotonic.
    """

    def __init__(self, heartbeat_s: float, verdict: VerdictHysteresis) -> None:
        self.verdict = verdict
        self._limit_s = max(MISSED_HEARTBEATS * heartbeat_s, MIN_LEADERLESS_S)
        self._since_ns: dict[str, int] = {}

    def judge(self, live: Iterable[Instance], now_ns: int) -> None:
        """Judge by the newest heartbeats of the watched instances that are not stale."""
        waiting: set[str] = set()
        led: set[str] = set()
        for entry in live:
            signals = entry.signals
            if signals is None or not signals.delivers_facts:
                continue
            if signals.HasField("facts_pending"):
                led.add(entry.service)
            elif signals.probe.result == tracking_pb2.Probe.REACHABLE:
                waiting.add(entry.service)
        self._since_ns = {
            service: self._since_ns.get(service, now_ns) for service in sorted(waiting - led)
        }
        reasons = tuple(self._find_reasons(now_ns))
        if reasons:
            self.verdict.update(Verdict(Status.UNHEALTHY, reasons, hard=True))
        else:
            self.verdict.update(Verdict(Status.HEALTHY))

    def shift(self, unpaused_ns: int, now_ns: int) -> None:
        """Leave out a pause of this process."""
        for service, since_ns in self._since_ns.items():
            self._since_ns[service] = shift_by_pause(since_ns, unpaused_ns, now_ns)

    def _find_reasons(self, now_ns: int) -> Iterable[Reason]:
        for service, since_ns in self._since_ns.items():
            waited_s = (now_ns - since_ns) / 1e9
            if waited_s >= self._limit_s:
                message = f"no process of {service} has delivered its facts for {waited_s:.0f} s"
                yield Reason("no_leader", waited_s, self._limit_s, 1, (), message)
