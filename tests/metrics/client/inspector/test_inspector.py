"""Queries are looked at while they run: what they wait for and for whom, within a budget, and never
at their expense.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import pytest
import structlog

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.inspector.budget import Budget
from metrics_service.client.queries.normalise import Normalised, normalise
from metrics_service.client.queries.record import NamedQuery, Outcome
from metrics_service.client.tracked import TrackedConnection, connect, track_query
from tests.allowance import Stopwatch
from tests.metrics.client.inspector.scene import LOCKED, Scene, be_patient, blocked, waiting
from tests.metrics.client.recording import Clock


@pytest.fixture
def scene(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    be_patient(monkeypatch)
    return Scene(empty_dsn)


@pytest.fixture
async def inspector(scene: Scene) -> AsyncIterator[QueryInspector]:
    made = scene.inspector(plans=False)
    yield made
    await made.stop()


async def test_a_blocked_query_is_seen_with_its_wait_and_who_holds_the_lock(
    scene: Scene, inspector: QueryInspector
) -> None:
    scene.tracker.trace_id = lambda: b"t" * 16
    async with blocked(scene) as (holder, waiter, task):
        scene.after(0.6)
        await inspector.look()
        (look,) = scene.looks.running
        (definition,) = scene.looks.definitions
        assert not task.done()
        assert look.pid == waiter.get_server_pid()
        assert (look.wait_event_type, look.wait_event) == ("Lock", "transactionid")
        assert look.running_us == 600_000
        assert look.start_time_us == 1_000_000_000
        assert look.trace_id == b"t" * 16
        assert (look.fingerprint, definition.operation) == (definition.fingerprint, "update")
        (blocker,) = look.blockers
        assert blocker.pid == holder.get_server_pid()
        assert blocker.application_name == "the holder"
        assert blocker.state == "idle in transaction"
        assert blocker.query == "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
        assert blocker.transaction_us > 0
        assert (blocker.wait_event_type, blocker.wait_event) == ("Client", "ClientRead")
    (ended,) = [kept.record for kept in scene.records.labelled("sql.update")]
    assert ended.capture_id == look.capture_id != 0


async def test_at_exactly_the_threshold_nothing_is_asked(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        scene.after(0.5)
        await inspector.look()
        assert (scene.connects, scene.looks.running) == (0, [])
        scene.after(0.000001)
        await inspector.look()
        assert (scene.connects, len(scene.looks.running)) == (1, 1)


async def test_a_query_is_looked_at_when_its_time_has_doubled(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        for _ in range(45):
            scene.after(0.1)
            await inspector.look()
    seen_ms = [look.running_us // 1000 for look in scene.looks.running]
    assert [each // 100 for each in seen_ms] in ([6, 11, 21, 41], [5, 10, 20, 40])
    assert len({look.capture_id for look in scene.looks.running}) == 1
    assert inspector.looks == 4


async def test_all_that_is_due_is_one_question(scene: Scene, inspector: QueryInspector) -> None:
    async with blocked(scene) as (holder, waiter, _), waiting(scene) as (other, task):
        scene.after(0.6)
        await inspector.look()
        await holder.execute("ROLLBACK")
        await task
        pids = {waiter.get_server_pid(), other.get_server_pid()}
    assert {look.pid for look in scene.looks.running} == pids
    assert len({look.capture_id for look in scene.looks.running}) == 2
    assert len(scene.records.labelled("inspector.look")) == inspector.looks == 1


async def test_what_the_inspector_itself_runs_is_internal_and_never_looked_at(
    scene: Scene, inspector: QueryInspector
) -> None:
    internal = NamedQuery(LOCKED, model="outbox", operation="poll", internal=True)
    async with blocked(scene, internal):
        scene.after(10)
        await inspector.look()
    assert scene.looks.running == []
    async with blocked(scene):
        scene.after(10)
        await inspector.look()
    assert [kept.record.internal for kept in scene.records.labelled("inspector.look")] == [True]


async def test_a_first_look_is_one_round_of_one_question(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        scene.records.clear()
        scene.after(0.6)
        await inspector.look()
        # Above all the driver does not ask about types: that alone would cost a pause of seconds.
        assert [kept.label for kept in scene.records.all] == ["inspector.look"]


async def test_a_prepare_that_waits_for_a_lock_is_seen_as_its_query(
    scene: Scene, inspector: QueryInspector
) -> None:
    async def prepare(connection: TrackedConnection) -> None:
        await connection.prepare(LOCKED)

    async with (
        blocked(scene, blocker="LOCK TABLE accounts") as (holder, _, _),
        waiting(scene, prepare) as (preparing, _),
    ):
        scene.after(0.6)
        await inspector.look()
        await holder.execute("ROLLBACK")
    seen = {look.pid: look for look in scene.looks.running}[preparing.get_server_pid()]
    assert (seen.wait_event, [blocker.pid for blocker in seen.blockers]) == (
        "relation",
        [holder.get_server_pid()],
    )


async def test_no_literal_of_another_session_gets_out(
    scene: Scene, inspector: QueryInspector
) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    lock = "UPDATE accounts SET balance = 2, name = "
    texts = (
        f"{lock}'{canary}' WHERE id = 1",
        # Cut by the server in the middle of a literal.
        f"{lock}'{canary}{'x' * 5000}{canary}' WHERE id = 1",
        f"{lock}$tag${canary}{'x' * 5000}$tag$ WHERE id = 1",
        f"/* {canary} */ {lock}E'\\'{canary}' WHERE id = 1 -- {canary}",
        f"DO $$ BEGIN {lock}'{canary}' WHERE id = 1; END $$",
    )
    for text in texts:
        async with blocked(scene, blocker=text):
            scene.after(60)
            await inspector.look()
    assert len(scene.looks.running) == len(texts)
    assert all(look.blockers[0].query for look in scene.looks.running)
    assert canary not in repr(scene.looks.running)
    assert canary.encode() not in b"".join(look.SerializeToString() for look in scene.looks.running)


async def test_who_stands_in_the_way_of_many_is_normalised_once(
    scene: Scene, inspector: QueryInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    def counted(text: str) -> Normalised:
        texts.append(text)
        return normalise(text)

    monkeypatch.setattr("metrics_service.client.inspector.observation.normalise", counted)
    async with blocked(scene) as (holder, _, _), waiting(scene), waiting(scene):
        scene.after(0.6)
        await inspector.look()
        await holder.execute("ROLLBACK")
    blockers = [blocker.query for look in scene.looks.running for blocker in look.blockers]
    # The holder wrote its value out, and the others wait for the first of them.
    assert len(blockers) > len(texts) == 2


async def test_a_blocker_without_a_name_has_that_of_its_kind(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (holder, _, _):
        # Like autovacuum no client, but quick to have in the way.
        sender = await asyncpg.connect(scene.dsn, server_settings={"replication": "database"})
        await holder.execute("COMMIT")
        await sender.execute("BEGIN")
        await sender.execute("LOCK TABLE accounts")
        async with waiting(scene):
            scene.after(0.6)
            await inspector.look()
            await sender.close()
    (look,) = scene.looks.running
    assert [blocker.application_name for blocker in look.blockers] == ["walsender"]


async def test_a_blocker_of_another_role_is_there_without_what_it_does(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (holder, _, _):
        guest = f"guest{secrets.token_hex(8)}"
        await holder.execute(
            f"COMMIT; CREATE ROLE {guest} LOGIN PASSWORD '{guest}';GRANT ALL ON accounts TO {guest}"
        )
        await holder.execute(f"BEGIN; {LOCKED.replace('$1', '1')}")
        scene.dsn = re.sub("//.*@", f"//{guest}:{guest}@", scene.dsn)
        async with waiting(scene):
            scene.after(0.6)
            await inspector.look()
            await holder.execute("ROLLBACK")
        pid = holder.get_server_pid()
        await holder.execute(f"DROP OWNED BY {guest}; DROP ROLE {guest}")
    (look,) = scene.looks.running
    (blocker,) = look.blockers
    assert (blocker.pid, blocker.state, blocker.query) == (pid, "insufficient privilege", "")


async def test_an_operation_takes_over_the_look_at_its_part(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with track_query("create", model="bookings", tracker=scene.tracker), blocked(scene):
        scene.after(0.6)
        await inspector.look()
    (look,) = scene.looks.running
    (part,) = scene.records.labelled("sql.update")
    (whole,) = scene.records.labelled("bookings.create")
    assert (part.record.capture_id, whole.record.capture_id) == (0, look.capture_id)


async def test_a_cursor_takes_over_the_look_at_its_round_trip(
    scene: Scene, inspector: QueryInspector
) -> None:
    async def read(connection: TrackedConnection) -> None:
        locked = "SELECT id FROM accounts WHERE id = $1 FOR UPDATE"
        async with connection.transaction():
            assert [row["id"] async for row in connection.cursor(locked, 1)] == [1]

    async with blocked(scene) as (holder, _, _), waiting(scene, read) as (reader, task):
        scene.after(0.6)
        await inspector.look()
        await holder.execute("ROLLBACK")
        await task
        pid = reader.get_server_pid()
    (look,) = [each for each in scene.looks.running if each.pid == pid]
    captures = {
        kept.record.internal: kept.record.capture_id
        for kept in scene.records.labelled("sql.select")
    }
    assert captures == {True: 0, False: look.capture_id}


async def test_a_query_that_ends_during_the_look_names_none(scene: Scene) -> None:
    class Late(TrackedConnection):
        __slots__ = ("before_answer",)
        before_answer: Callable[[], Awaitable[None]]

        async def fetch(self, *args: Any, **options: Any) -> Any:
            rows = await super().fetch(*args, **options)
            assert [row["wait_event_type"] for row in rows] == ["Lock"]
            await self.before_answer()
            return rows

    async with blocked(scene) as (holder, _, task):

        async def release() -> None:
            await holder.execute("ROLLBACK")
            await task

        async def late(_: Mapping[str, str]) -> TrackedConnection:
            made = await asyncpg.connect(scene.dsn, connection_class=Late)
            made.before_answer = release
            return made

        inspector = QueryInspector(scene.tracker, late, scene.looks, plans=False)
        scene.after(0.6)
        await inspector.look()
        await inspector.stop()
    assert inspector.looks == 1
    assert scene.looks.running == []
    assert [kept.record.capture_id for kept in scene.records.labelled("sql.update")] == [0]


async def test_a_look_that_is_put_off_is_made_up_for(scene: Scene) -> None:
    class Slow(TrackedConnection):
        __slots__ = ()

        async def fetch(self, *args: Any, **options: Any) -> Any:
            # So that a query that became due right after the other does within the pause.
            scene.after(0.003)
            return await super().fetch(*args, **options)

    async def slow(_: Mapping[str, str]) -> TrackedConnection:
        return await asyncpg.connect(scene.dsn, connection_class=Slow)

    inspector = QueryInspector(scene.tracker, slow, scene.looks, plans=False)
    async with blocked(scene) as (holder, waiter, _):
        scene.after(0.1)
        async with waiting(scene) as (other, _):
            for _ in range(45):
                scene.after(0.1)
                await inspector.look()
            await holder.execute("ROLLBACK")
            pids = [waiter.get_server_pid(), other.get_server_pid()]
    await inspector.stop()
    seen = [look.pid for look in scene.looks.running]
    assert [seen.count(pid) for pid in pids] == [4, 4]
    assert inspector.skipped > 0


async def test_no_more_looks_a_minute_than_there_may_be(scene: Scene) -> None:
    inspector = scene.inspector(plans=False, per_minute=2)
    async with blocked(scene):
        for s in (0.6, 0.5, 1, 2, 4, 8, 16):
            scene.after(s)
            await inspector.look()
        assert (inspector.looks, inspector.skipped) == (2, 5)
        scene.after(32)
        await inspector.look()
        assert (inspector.looks, inspector.skipped) == (3, 5)
    await inspector.stop()


async def test_after_a_look_that_took_long_there_is_none_for_a_hundred_times_that() -> None:
    clock = Clock()
    budget = Budget(60, clock.monotonic_ns)
    assert budget.take()
    budget.took(20_000_000)
    clock.s += 1.999
    assert not budget.take()
    clock.s += 0.002
    assert budget.take()


async def test_a_database_that_does_not_answer_is_asked_less_and_less() -> None:
    clock = Clock()
    budget = Budget(60, clock.monotonic_ns)
    asked_s: list[float] = []
    for _ in range(1500):
        if budget.take():
            asked_s.append(clock.s)
            budget.failed()
        clock.s += 0.1
    gaps = [round(later - before) for before, later in itertools.pairwise(asked_s)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30]
    clock.s += 30
    assert budget.take()
    budget.took(0)
    assert budget.take()


async def test_a_database_that_cannot_be_reached_costs_nobody_anything(scene: Scene) -> None:
    attempts = 0

    async def refused(_: Mapping[str, str]) -> TrackedConnection:
        nonlocal attempts
        attempts += 1
        raise ConnectionRefusedError

    inspector = QueryInspector(scene.tracker, refused, scene.looks, plans=False)
    async with blocked(scene):
        for s in (0.6, 0.5, 1, 2):
            scene.after(s)
            await inspector.look()
    assert (attempts, inspector.looks, inspector.skipped) == (3, 0, 1)
    assert [kept.outcome for kept in scene.records.user] == [Outcome.OK]


async def test_an_outage_is_told_once_and_its_end_once(scene: Scene) -> None:
    refusing = True
    secret = secrets.token_hex(8)

    async def pooler(settings: Mapping[str, str]) -> TrackedConnection:
        if refusing:
            raise asyncpg.ProtocolViolationError(f"unsupported startup parameter: {secret}")
        return await scene.connect(settings)

    inspector = QueryInspector(scene.tracker, pooler, scene.looks, plans=False)
    async with blocked(scene):
        with structlog.testing.capture_logs() as logged:
            for s in (0.6, 1, 2, 4):
                scene.after(s)
                await inspector.look()
            refusing = False
            for s in (8, 16, 32):
                scene.after(s)
                await inspector.look()
    await inspector.stop()
    assert [line["log_level"] for line in logged] == ["warning", "info"]
    told = {"event", "log_level", "error", "sqlstate"}
    assert logged[0].keys() == told
    assert (logged[0]["error"], logged[0]["sqlstate"]) == ("ProtocolViolationError", "08P01")
    assert secret not in repr(logged)


async def test_after_its_connection_broke_it_makes_a_new_one(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (holder, _, _):
        scene.after(0.6)
        await inspector.look()
        mine = "query LIKE '%looked_at%' AND pid <> pg_backend_pid()"
        await holder.fetch(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}"
        )
        for s in (1, 2, 4):
            scene.after(s)
            await inspector.look()
    assert scene.connects == 2
    assert len(scene.looks.running) in (3, 4)
    assert [kept.outcome for kept in scene.records.user] == [Outcome.OK]


async def test_stopping_does_not_wait_for_the_server(scene: Scene) -> None:
    asked = asyncio.Event()

    async def never(_: Mapping[str, str]) -> TrackedConnection:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    inspector = QueryInspector(scene.tracker, never, scene.looks, interval_s=0.001)
    async with blocked(scene):
        scene.after(0.6)
        inspector.start()
        async with asyncio.timeout(10):
            await asked.wait()
        with Stopwatch() as passed:
            await inspector.stop()
        # Its own deadline for connecting is far away.
        assert passed.s < 1.0


async def test_switched_off_it_never_connects(scene: Scene) -> None:
    inspector = scene.inspector(running=False, plans=False)
    async with blocked(scene):
        scene.after(60)
        await inspector.look()
    await inspector.look()
    assert (scene.connects, inspector.looks, inspector.skipped) == (0, 0, 0)


async def test_a_second_query_on_the_connection_does_not_hide_the_first(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (_, waiter, _):
        with contextlib.suppress(Exception):
            await waiter.fetch("SELECT 1")
        scene.after(0.6)
        await inspector.look()
        assert [look.pid for look in scene.looks.running] == [waiter.get_server_pid()]
    outcomes = {kept.label: kept.outcome for kept in scene.records.user}
    assert outcomes == {"sql.select": Outcome.MISUSE, "sql.update": Outcome.OK}


async def test_connections_that_are_gone_are_not_kept(scene: Scene) -> None:
    for _ in range(3):
        made = await connect(scene.dsn, tracker=scene.tracker)
        await made.close()
        del made
    # What the event loop still holds goes with its next turns.
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert len(scene.tracker.connections) == 0
