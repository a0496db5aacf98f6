"""The health of the databases behind the instances that report here: signals apply at once, missing
heartbeats never improve a verdict, and the number of instances is bounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from metrics_service.client.host import (
    WINDOW_S,
    Criteria,
    HealthWindow,
    Reason,
    Status,
    Verdict,
    VerdictHysteresis,
)
from metrics_service.health.combined import Combined
from metrics_service.health.instance import Instance
from metrics_service.health.instances import Instances
from metrics_service.health.leaderless import Leaderless
from metrics_service.health.log_verdict import LogVerdict
from metrics_service.health.paging import FIRST, Page
from metrics_service.health.reasons import merged_reasons
from metrics_service.health.signals import countable, displayable
from metrics_service.health.undelivered import Undelivered
from metrics_service.measure.thresholds import MISSED_HEARTBEATS
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason, LogHealth
from protos.tracking.v1 import tracking_pb2
from servicekit.clock import wall_us
from servicekit.pauses import shift_by_pause

MAX_TICK_INTERVAL_S: Final = 1.0
"""`tick` is called more often than this. Time beyond it without one is a pause of this process, in
which it read no heartbeat: it does not count as an instance's silence.
"""

CATCH_UP_S: Final = 3.0
"""How long after a pause the log may be unwritable, since timeouts expired during the pause."""

# From best to worst; an unknown one does not hide the others.
_SEVERITY: Final = (
    Status.UNKNOWN,
    Status.HEALTHY,
    Status.DEGRADED,
    Status.STALE,
    Status.UNHEALTHY,
)


class HealthRegistry:
    """The instances that report here and the verdict on them, each and together.

    Only instances of the watched services decide the merged verdict; others have one of their own.
    Producers send a heartbeat every heartbeat_s; three missed ones make an instance stale.
    log_health gives the state of the database that this service itself writes to, log_budgets what
    its bounds refuse or drop. `tick` must be called at least every MAX_TICK_INTERVAL_S, since time
    alone changes a verdict.
    """

    def __init__(
        self,
        *,
        heartbeat_s: float,
        log_health: Callable[[], LogHealth],
        criteria: Criteria,
        watched: frozenset[str],
        log_budgets: Callable[[], list[str]] = list,
        now_us: Callable[[], int] = wall_us,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._stale_after_s = heartbeat_s * MISSED_HEARTBEATS
        self._log_health = log_health
        self._criteria = criteria
        self._now_us = now_us
        self._monotonic_ns = monotonic_ns
        self._combined = Combined(criteria, self._new_window, self._new_verdict)
        self._instances = Instances(
            stale_after_s=self._stale_after_s,
            watched=watched,
            on_forgotten=self._combined.on_forgotten,
            now_s=lambda: monotonic_ns() / 1e9,
        )
        self._ticked_ns = monotonic_ns()
        self._resumed_ns = -math.inf
        self._log = LogVerdict(log_health, log_budgets, self._new_verdict)
        self._leaderless = Leaderless(heartbeat_s, self._new_verdict())
        # What it combines has lasted already: only the gap between two changes is left to enforce.
        self._verdict = self._new_verdict(replace(criteria, worse_after_s=0.0, better_after_s=0.0))
        self._reasons: tuple[HealthReason, ...] = ()
        self._listeners: list[Callable[[DatabaseHealth], None]] = []
        self._published: tuple[object, ...] = ()

    def on_change(self, listener: Callable[[DatabaseHealth], None]) -> None:
        """Call listener with the verdict whenever a status or the unmet criteria have changed."""
        self._listeners.append(listener)

    def on_hello(self, instance: str, service: str) -> None:
        """Add a process that has connected; the state of its database comes with a heartbeat. It
        decides nothing before, so that listeners hear of it at the next tick: others connect too.
        """
        entry = self._entry(instance, service)
        if entry is not None:
            if entry.closed_ns is not None:
                entry.undelivered.restart()
            entry.closed_ns = None

    def on_heartbeat(
        self, instance: str, service: str, signals: tracking_pb2.Signals, facts_seq: int = 0
    ) -> None:
        """Apply the state of a process's database at this moment. facts_seq is the number of the
        newest batch of its facts that is stored. Listeners hear at the next tick of a service that
        decides nothing.
        """
        entry = self._entry(instance, service)
        if entry is None:
            return
        now_ns = self._monotonic_ns()
        if self._instances.is_stale(entry, self._unpaused_ns(now_ns)):
            entry.undelivered.restart()
        entry.last_beat_ns = now_ns
        entry.closed_ns = None
        entry.signals = displayable(signals)
        # While the log cannot be written, that is the reason.
        pending = entry.signals.facts_pending if self._log_health().writable else 0
        entry.undelivered.on_heartbeat(pending, facts_seq, self._unpaused_ns(now_ns))
        queries, operations = countable(signals)
        entry.count(queries, operations)
        self._judge(entry)
        if self._instances.is_watched(service):
            self._combined.count(queries, operations)
            self._combined.judge()
            self._publish()

    def on_goodbye(self, instance: str, service: str) -> None:
        """Forget a process that has ended in order."""
        if self._instances.remove(instance, service):
            self._publish()

    def on_closed(self, instance: str, service: str) -> None:
        """Note that a process closed its stream: it was killed, or connects again soon."""
        entry = self._instances.get(instance, service)
        if entry is not None:
            entry.closed_ns = self._monotonic_ns()

    def tick(self) -> None:
        """Judge everything again: time has passed, or the log was lost or recovered."""
        now_ns = self._monotonic_ns()
        unpaused_ns = self._unpaused_ns(now_ns)
        self._ticked_ns = now_ns
        if unpaused_ns < now_ns:
            self._resumed_ns = now_ns
        for entry in self._instances:
            entry.last_beat_ns = shift_by_pause(entry.last_beat_ns, unpaused_ns, now_ns)
            entry.undelivered.shift(unpaused_ns, now_ns)
            self._judge(entry)
        self._leaderless.shift(unpaused_ns, now_ns)
        self._combined.tick(self._instances.deciding(), now_ns)
        self._publish()

    def verdict(self, page: Page = FIRST) -> DatabaseHealth:
        """Return the verdict now, with every figure that led to it, and a page of the instances."""
        self._publish()
        return self._build(page)

    def reporting(self) -> Iterator[tuple[Instance, int, bool]]:
        """Yield every instance, watched ones first, with how long it has been silent, in
        nanoseconds, and whether it is gone.
        """
        now_ns = self._unpaused_ns(self._monotonic_ns())
        for entry in self._instances:
            yield entry, entry.silent_ns(now_ns), self._instances.is_gone(entry, now_ns)

    # Judging.

    def _judge(self, entry: Instance) -> None:
        entry.figures = entry.window.figures()
        if not self._instances.is_stale(entry, self._unpaused_ns(self._monotonic_ns())):
            entry.verdict.update(entry.assess(self._criteria))

    def _judge_silence(self) -> None:
        unpaused_ns = self._unpaused_ns(self._monotonic_ns())
        for entry in self._instances:
            silent_s = entry.silent_ns(unpaused_ns) / 1e9
            if silent_s >= self._stale_after_s:
                message = f"no heartbeat for {silent_s:.1f} s"
                reason = Reason("heartbeat", silent_s, self._stale_after_s, 1, (), message)
                entry.verdict.update(Verdict(Status.STALE, (reason,)))

    def _has_just_resumed(self) -> bool:
        now_ns = self._monotonic_ns()
        return self._unpaused_ns(now_ns) < now_ns or now_ns - self._resumed_ns < CATCH_UP_S * 1e9

    def _judge_services(self) -> None:
        now_ns = self._unpaused_ns(self._monotonic_ns())
        live = (
            each
            for each in self._instances.deciding()
            if not self._instances.is_stale(each, now_ns)
        )
        self._leaderless.judge(live, now_ns)

    def _status(self) -> Status:
        """Return the worst of all that decide; unknown while none does, unless the log is down or
        facts are not delivered.
        """
        known = [entry.verdict.status for entry in self._instances.deciding()]
        if any(status is not Status.UNKNOWN for status in known):
            known.append(self._combined.verdict.status)
        own = (self._log.verdict.status, self._leaderless.verdict.status)
        known += [status for status in own if status in (Status.DEGRADED, Status.UNHEALTHY)]
        return max(known, key=_SEVERITY.index, default=Status.UNKNOWN)

    def _is_hard(self) -> bool:
        """Whether any verdict had to show at once, so that the overall one has to as well."""
        verdicts = (entry.verdict for entry in self._instances.deciding())
        own = (self._combined.verdict, self._log.verdict, self._leaderless.verdict)
        return any(each.hard for each in (*verdicts, *own))

    def _publish(self) -> None:
        """Apply what time alone decides, and call the listeners if anything has changed."""
        self._instances.forget_stale(self._unpaused_ns(self._monotonic_ns()))
        self._judge_silence()
        self._log.judge(resumed=self._has_just_resumed())
        self._judge_services()
        status = self._status()
        self._verdict.update(Verdict(status, (), self._is_hard()))
        if self._verdict.status is status:
            # Else the status shown is the previous one, and its reasons stay with it.
            self._reasons = merged_reasons(
                self._log.verdict,
                self._instances.deciding(),
                self._combined.verdict,
                self._leaderless.verdict,
            )
        state = (
            self._verdict.status,
            *((each.criterion, each.instance) for each in self._reasons),
            *((entry.name, entry.verdict.status) for entry in self._instances),
        )
        if state == self._published:
            return
        self._published = state
        health = self._build(FIRST)
        for listener in self._listeners:
            listener(health)

    # Instances.

    def _entry(self, instance: str, service: str) -> Instance | None:
        """Return the instance, new or known; None when too many report or its name is too long."""
        entry = self._instances.get(instance, service)
        if entry is not None:
            return entry
        now_ns = self._monotonic_ns()
        own = (self._new_verdict(), self._new_window(), Undelivered(self._heartbeat_s))
        entry = Instance(instance, service, *own, now_ns, now_ns)
        if not self._instances.add(entry, self._unpaused_ns(now_ns)):
            return None
        return entry

    def _unpaused_ns(self, now_ns: int) -> int:
        """Now, or when the pause began that holds up the next tick."""
        return min(now_ns, self._ticked_ns + int(MAX_TICK_INTERVAL_S * 1e9))

    def _new_window(self) -> HealthWindow:
        return HealthWindow(self._criteria, monotonic_ns=self._monotonic_ns)

    def _new_verdict(self, criteria: Criteria | None = None) -> VerdictHysteresis:
        return VerdictHysteresis(
            criteria or self._criteria, monotonic_ns=self._monotonic_ns, now_us=self._now_us
        )

    # The answer.

    def _build(self, page: Page) -> DatabaseHealth:
        unpaused_ns = self._unpaused_ns(self._monotonic_ns())
        instances, next_page_token = self._instances.list_page(page, unpaused_ns)
        health = DatabaseHealth(
            status=self._verdict.status.to_proto(),
            reasons=self._reasons,
            instances=instances,
            next_page_token=next_page_token,
            instances_total=len(self._instances),
            figures=self._combined.figures.to_proto(),
            log=self._log_health(),
        )
        health.since.FromMicroseconds(self._verdict.since_us)
        health.check_time.FromMicroseconds(self._now_us())
        health.window.FromSeconds(WINDOW_S)
        return health
