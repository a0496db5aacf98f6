"""Observes the queries of a tracker that run for too long, at 500 ms, 1 s, 2 s and so on, and
captures the plans of slow ones: on a separate connection, one request at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from metrics_service.client.inspector.budget import Budget
from metrics_service.client.inspector.observation import OBSERVE, observations
from metrics_service.client.inspector.plans import (
    OLDEST_SERVER,
    Connection,
    PlanQueue,
    generic_plan,
)
from metrics_service.client.queries.record import Outcome, QueryDefinition
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.running import RunningConnection, RunningQuery
from metrics_service.client.tracked.tracker import Tracker
from metrics_service.measure.thresholds import SLOW_US
from protos.tracking.v1 import event_pb2
from servicekit.background import BackgroundTask

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "statement_timeout": "1000",
        "lock_timeout": "100",
        "default_transaction_read_only": "on",
        # What is prepared here is only ever explained.
        "plan_cache_mode": "force_generic_plan",
    }
)
"""The server settings that its connection must have."""

INTERVAL_S: Final = 0.1
"""How often the running queries are checked; that sends nothing to the server."""

PER_MINUTE: Final = 60
"""The most observations and plans together."""

PLAN_INTERVAL_S: Final = 600.0
"""The time between two plans of one fingerprint."""

DEADLINE_S: Final = 2.0
"""Limits a server that does not keep its statement_timeout, and connecting."""

MAX_OBSERVED: Final = 100
"""The most queries in one observation."""

log = structlog.get_logger()


class ObservationSink(Protocol):
    """Takes observations and plans."""

    def add_observation(
        self, observation: event_pb2.RunningQuery | event_pb2.QueryPlan, definition: QueryDefinition
    ) -> None:
        """Take one observation or plan and the definition of its fingerprint: must not block or
        raise.
        """


class QueryInspector:
    """Inspects the queries on the connections of a tracker, except internal ones.

    `connect` makes a tracked connection with the given server settings. A query is observed once it
    has run for more than after_us, introspection of types included; an observation that the budget
    postpones follows as soon as the budget allows, if the query still runs then. start_time_us of
    an observation is by the tracker's clock. `observations` counts observations and plans,
    `skipped` those that the budget postponed or dropped, `plan_errors` the statements that the
    server refused to plan.
    """

    def __init__(
        self,
        tracker: Tracker,
        connect: Callable[[Mapping[str, str]], Awaitable[Connection]],
        sink: ObservationSink,
        *,
        running: bool = True,
        plans: bool = True,
        after_us: int = SLOW_US,
        per_minute: int = PER_MINUTE,
        plan_interval_s: float = PLAN_INTERVAL_S,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.observations = 0
        self.plan_errors = 0
        self._skipped = 0
        self._tracker = tracker
        self._connect = connect
        self._sink = sink
        self._running = running
        self._after_ns = after_us * 1000
        self._interval_s = interval_s
        self._budget = Budget(per_minute, tracker.monotonic_ns)
        self._plans = PlanQueue(plan_interval_s, tracker.monotonic_ns) if plans else None
        self._connection: Connection | None = None
        # Whether the last request failed.
        self._failing = False
        self._capture_ids = count(1)
        # When each query past the threshold is observed next, in nanoseconds of its running time.
        self._due_ns: dict[RunningQuery, int] = {}
        # Those of them whose observation the budget has postponed.
        self._postponed: set[RunningQuery] = set()
        self._task = BackgroundTask("query-inspector")
        if self._plans is not None:
            tracker.slow_ns, tracker.on_slow = self._after_ns, self._plans.add

    @property
    def skipped(self) -> int:
        """Observations and plans that the budget postponed or dropped."""
        return self._skipped + (self._plans.dropped if self._plans is not None else 0)

    def start(self) -> None:
        """Inspect from now on, unless both running queries and plans are switched off."""
        if not self._running and self._plans is None:
            return
        self._task.start(self._run())

    async def stop(self) -> None:
        """End at once, without waiting for the server."""
        self._tracker.on_slow = None
        await self._task.stop()
        self._drop()

    async def observe(self) -> None:
        """Observe the queries that are due, or else capture a plan that waits; never raises."""
        due, more = self._due() if self._running else ([], False)
        if due:
            now: list[tuple[RunningConnection, RunningQuery]] = []
            if self._budget.take():
                now = due[:MAX_OBSERVED]
            elif more:
                self._skipped += 1
            self._postponed = {run for _, run in due[len(now) :]}
            if now:
                await self._request(lambda connection: self._observe(connection, now))
        elif self._plans and self._budget.take():
            await self._request(self._plan)

    def _due(self) -> tuple[list[tuple[RunningConnection, RunningQuery]], bool]:
        """Return the queries to observe now, and whether one of them has become due since the last
        call; each is due again when it has run for twice as long.
        """
        now_ns = self._tracker.monotonic_ns()
        more = False
        due: list[tuple[RunningConnection, RunningQuery]] = []
        next_ns: dict[RunningQuery, int] = {}
        for connection in list(self._tracker.connections):
            run = connection.running
            if run is None:
                continue
            running_ns = self._tracker.pauses.unpaused_ns(now_ns - run.sent_ns)
            if running_ns <= self._after_ns:
                continue
            at_ns = self._due_ns.get(run, self._after_ns)
            if running_ns > at_ns:
                more = True
                due.append((connection, run))
            elif run in self._postponed:
                due.append((connection, run))
            while at_ns < running_ns:
                at_ns *= 2
            next_ns[run] = at_ns
        self._due_ns = next_ns
        return due, more

    async def _request(self, request: Callable[[Connection], Awaitable[None]]) -> None:
        """Run a request on the inspector's connection, which does not outlive a failure."""
        try:
            connection = await self._connected()
            sent_ns = self._tracker.monotonic_ns()
            async with asyncio.timeout(DEADLINE_S):
                await request(connection)
        except Exception as error:
            self._drop()
            self._budget.failed()
            self._log_failing(error)
        else:
            self.observations += 1
            self._budget.took(self._tracker.since(sent_ns))
            if self._failing:
                self._failing = False
                log.info("inspection_recovered")

    def _log_failing(self, error: Exception) -> None:
        """Log once per outage."""
        if not self._failing:
            self._failing = True
            sqlstate = getattr(error, "sqlstate", None)
            log.warning("inspection_failed", error=type(error).__name__, sqlstate=sqlstate)

    async def _observe(
        self, connection: Connection, due: list[tuple[RunningConnection, RunningQuery]]
    ) -> None:
        since = self._tracker.since
        by_pid = {pid: (of, run, since(run.sent_ns)) for of, run in due if (pid := _pid(of))}
        observed = observations(await connection.fetch(OBSERVE, ",".join(map(str, by_pid))))
        for pid, observation in observed.items():
            running_on, run, running_ns = by_pid[pid]
            definition = run.statement.definition
            if running_on.running is not run:
                # It has ended meanwhile, so its timing cannot name this observation any more.
                continue
            run.capture_id = run.capture_id or next(self._capture_ids)
            observation.capture_id = run.capture_id
            observation.fingerprint = definition.fingerprint
            observation.start_time_us = run.started_us
            observation.running_us = running_ns // 1000
            observation.trace_id = run.trace_id or b""
            self._sink.add_observation(observation, definition)
            if self._plans is not None:
                self._plans.add(run.statement)

    async def _plan(self, connection: Connection) -> None:
        if self._plans is None:
            return
        major = connection.get_server_version().major
        if major < OLDEST_SERVER:
            log.info("plans_disabled", reason="the server is too old", server=major)
            self._plans = self._tracker.on_slow = None
            return
        taken = self._plans.take()
        if taken is None:
            return
        definition = taken.definition
        try:
            plan = await generic_plan(connection, taken.source)
        except Exception as error:
            outcome, sqlstate = classify(error, closed=connection.is_closed())
            if outcome is not Outcome.ERROR:
                raise
            if sqlstate in _BUSY:
                self._plans.postpone(taken)
                return
            self.plan_errors += 1
            log.info("plan_refused", query=definition.label, sqlstate=sqlstate)
            return
        observation = event_pb2.QueryPlan(fingerprint=definition.fingerprint, plan=plan)
        self._sink.add_observation(observation, definition)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            async with asyncio.timeout(DEADLINE_S):
                self._connection = await self._connect(SETTINGS)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.observe()
            except Exception:
                # A defect of the inspector: it goes on, but not at this rate.
                self._budget.failed()


# A lock or statement timeout: its tables are in use, most likely by what made it slow.
_BUSY: Final = frozenset({"55P03", "57014"})


def _pid(connection: RunningConnection) -> int:
    """Return the process id of the backend, 0 if there is none."""
    return 0 if connection.is_closed() else connection.get_server_pid()
