"""Looks at the queries of a tracker that run for too long, at 500 ms, 1 s, 2 s and so on, and asks
for the plans of slow ones: on a connection of its own, one question at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from metrics_service.client.inspector.budget import Budget
from metrics_service.client.inspector.observation import LOOK, looks
from metrics_service.client.inspector.plans import (
    OLDEST_SERVER,
    Connection,
    PlanQueue,
    generic_plan,
)
from metrics_service.client.queries.record import Outcome, QueryDefinition
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.running import RunningConnection, RunningQuery
from metrics_service.client.tracked.timing import Timing
from metrics_service.client.tracked.tracker import Tracker
from metrics_service.measure.thresholds import SLOW_US
from protos.tracking.v1 import event_pb2

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "statement_timeout": "1000",
        "lock_timeout": "100",
        "default_transaction_read_only": "on",
        # What is prepared here is only ever explained.
        "plan_cache_mode": "force_generic_plan",
    }
)
"""The server's settings that the connection has to have."""

INTERVAL_S: Final = 0.1
"""How often the running queries are gone through; nothing is sent for that."""

PER_MINUTE: Final = 60
"""Looks and plans together, at most."""

PLAN_INTERVAL_S: Final = 600.0
"""Between two plans of one fingerprint."""

DEADLINE_S: Final = 2.0
"""For the answer of a server that does not keep its statement_timeout; for connecting too."""

LOOKED_AT_MAX: Final = 100
"""Queries in one look."""

log = structlog.get_logger()


class LookSink(Protocol):
    """Takes what was seen."""

    def add_look(
        self, look: event_pb2.RunningQuery | event_pb2.QueryPlan, definition: QueryDefinition
    ) -> None:
        """Take one look or plan, whose fingerprint the definition is of: must not block or
        raise.
        """


class QueryInspector:
    """Inspects the queries on the connections of a tracker; internal ones are left alone.

    `connect` makes a tracked connection, with the server's settings that it is given. A query is
    looked at when it has run for more than after_us, introspection of types included; a look that
    the budget puts off is made up for as soon as there may be one, if the query still runs then.
    start_time_us of what the sink gets is by the tracker's clock. `looks` counts looks and plans,
    `skipped` those that the budget put off or left out, `plan_errors` the statements that the
    server would not plan.
    """

    def __init__(
        self,
        tracker: Tracker,
        connect: Callable[[Mapping[str, str]], Awaitable[Connection]],
        sink: LookSink,
        *,
        running: bool = True,
        plans: bool = True,
        after_us: int = SLOW_US,
        per_minute: int = PER_MINUTE,
        plan_interval_s: float = PLAN_INTERVAL_S,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.looks = 0
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
        # Whether the last question found no answer.
        self._failing = False
        self._capture_ids = count(1)
        # When each query past the threshold is next looked at, in nanoseconds of its running.
        self._due_ns: dict[Timing, int] = {}
        # Those of them whose look is still to be made up for.
        self._put_off: set[Timing] = set()
        self._task: asyncio.Task[None] | None = None
        if self._plans is not None:
            tracker.slow_ns, tracker.on_slow = self._after_ns, self._plans.add

    @property
    def skipped(self) -> int:
        """Looks and plans that the budget put off or left out."""
        return self._skipped + (self._plans.dropped if self._plans is not None else 0)

    def start(self) -> None:
        """Look from now on, unless both running queries and plans are switched off."""
        if not self._running and self._plans is None:
            return
        self._task = asyncio.create_task(self._run(), name="query-inspector")

    async def stop(self) -> None:
        """End at once, whatever the server does."""
        self._tracker.on_slow = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._drop()

    async def look(self) -> None:
        """Look at what is due, or else take a plan that waits; never raises."""
        due, more = self._due() if self._running else ([], False)
        if due:
            now: list[tuple[RunningConnection, RunningQuery]] = []
            if self._budget.take():
                now = due[:LOOKED_AT_MAX]
            elif more:
                self._skipped += 1
            self._put_off = {run.timing for _, run in due[len(now) :]}
            if now:
                await self._ask(lambda connection: self._look_at(connection, now))
        elif self._plans and self._budget.take():
            await self._ask(self._plan)

    def _due(self) -> tuple[list[tuple[RunningConnection, RunningQuery]], bool]:
        """The queries to look at now, and whether one of them has become due since the last time;
        each is due again when it has run for twice as long.
        """
        now_ns = self._tracker.monotonic_ns()
        more = False
        due: list[tuple[RunningConnection, RunningQuery]] = []
        next_ns: dict[Timing, int] = {}
        for connection in list(self._tracker.connections):
            run = connection.running
            if run is None:
                continue
            timing = run.timing
            running_ns = self._tracker.pauses.unpaused_ns(now_ns - run.sent_ns)
            if running_ns <= self._after_ns:
                continue
            at_ns = self._due_ns.get(timing, self._after_ns)
            if running_ns > at_ns:
                more = True
                due.append((connection, run))
            elif timing in self._put_off:
                due.append((connection, run))
            while at_ns < running_ns:
                at_ns *= 2
            next_ns[timing] = at_ns
        self._due_ns = next_ns
        return due, more

    async def _ask(self, question: Callable[[Connection], Awaitable[None]]) -> None:
        """Ask on the own connection, which does not outlive a failure."""
        try:
            connection = await self._connected()
            asked_ns = self._tracker.monotonic_ns()
            async with asyncio.timeout(DEADLINE_S):
                await question(connection)
        except Exception as error:
            self._drop()
            self._budget.failed()
            self._tell_failing(error)
        else:
            self.looks += 1
            self._budget.took(self._tracker.since(asked_ns))
            if self._failing:
                self._failing = False
                log.info("running queries can be looked at again")

    def _tell_failing(self, error: Exception) -> None:
        """Once an outage: one that does not end may be a pooler that refuses the settings."""
        if not self._failing:
            self._failing = True
            sqlstate = getattr(error, "sqlstate", None)
            log.warning(
                "running queries cannot be looked at", error=type(error).__name__, sqlstate=sqlstate
            )

    async def _look_at(
        self, connection: Connection, due: list[tuple[RunningConnection, RunningQuery]]
    ) -> None:
        since = self._tracker.since
        by_pid = {pid: (of, run, since(run.sent_ns)) for of, run in due if (pid := _pid(of))}
        seen = looks(await connection.fetch(LOOK, ",".join(map(str, by_pid))))
        for pid, look in seen.items():
            looked_at, run, running_ns = by_pid[pid]
            timing, statement = run.timing, run.statement
            if looked_at.running is not run:
                # It has ended meanwhile, and its timing names no look that is still to come.
                continue
            timing.capture_id = timing.capture_id or next(self._capture_ids)
            look.capture_id = timing.capture_id
            look.fingerprint = statement.definition.fingerprint
            look.start_time_us = run.started_us
            look.running_us = running_ns // 1000
            look.trace_id = run.trace_id or b""
            self._sink.add_look(look, statement.definition)
            if self._plans is not None:
                self._plans.add(statement)

    async def _plan(self, connection: Connection) -> None:
        if self._plans is None:
            return
        major = connection.get_server_version().major
        if major < OLDEST_SERVER:
            log.info("no plans of slow queries: the server is too old", server=major)
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
                self._plans.put_off(taken)
                return
            self.plan_errors += 1
            log.info("no plan of a slow query", query=definition.label, sqlstate=sqlstate)
            return
        look = event_pb2.QueryPlan(fingerprint=definition.fingerprint, plan=plan)
        self._sink.add_look(look, definition)

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
                await self.look()
            except Exception:
                # Its own fault: the looking goes on, but not at this rate.
                self._budget.failed()


# A lock or a statement took too long: its tables are in use, most likely by what made it slow.
_BUSY: Final = frozenset({"55P03", "57014"})


def _pid(connection: RunningConnection) -> int:
    """Of the server process; 0 where there is none."""
    return 0 if connection.is_closed() else connection.get_server_pid()
