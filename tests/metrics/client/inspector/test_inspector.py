"""Queries are observed while they run: their wait, and the holder of the lock they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import pytest

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.queries.normalise import Normalised, normalise
from metrics_service.client.queries.record import NamedQuery, Outcome
from metrics_service.client.tracked import TrackedConnection, connect, track_query
from tests.metrics.client.inspector.scene import LOCKED, Scene, blocked, waiting


async def test_a_blocked_query_is_observed_with_its_wait_and_the_holder_of_the_lock(
    scene: Scene, inspector: QueryInspector
) -> None:
    scene.tracker.trace_id = lambda: b"t" * 16
    async with blocked(scene) as (holder, waiter, task):
        scene.after(0.6)
        await inspector.observe()
        (observation,) = scene.observations.running
        (definition,) = scene.observations.definitions
        assert not task.done()
        assert observation.pid == waiter.get_server_pid()
        assert (observation.wait_event_type, observation.wait_event) == ("Lock", "transactionid")
        assert observation.running_us == 600_000
        assert observation.start_time_us == 1_000_000_000
        assert observation.trace_id == b"t" * 16
        assert (observation.fingerprint, definition.operation) == (definition.fingerprint, "update")
        (blocker,) = observation.blockers
        assert blocker.pid == holder.get_server_pid()
        assert blocker.application_name == "the holder"
        assert blocker.state == "idle in transaction"
        assert blocker.query == "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
        assert blocker.transaction_us > 0
        assert (blocker.wait_event_type, blocker.wait_event) == ("Client", "ClientRead")
    (ended,) = [kept.record for kept in scene.records.labelled("sql.update")]
    assert ended.capture_id == observation.capture_id != 0


async def test_a_query_at_exactly_the_threshold_is_not_observed(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        scene.after(0.5)
        await inspector.observe()
        assert (scene.connects, scene.observations.running) == (0, [])
        scene.after(0.000001)
        await inspector.observe()
        assert (scene.connects, len(scene.observations.running)) == (1, 1)


async def test_a_query_is_observed_again_when_its_time_has_doubled(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        for _ in range(45):
            scene.after(0.1)
            await inspector.observe()
    seen_ms = [observation.running_us // 1000 for observation in scene.observations.running]
    assert [each // 100 for each in seen_ms] in ([6, 11, 21, 41], [5, 10, 20, 40])
    assert len({observation.capture_id for observation in scene.observations.running}) == 1
    assert inspector.observations == 4


async def test_all_due_queries_are_observed_in_one_request(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (holder, waiter, _), waiting(scene) as (other, task):
        scene.after(0.6)
        await inspector.observe()
        await holder.execute("ROLLBACK")
        await task
        pids = {waiter.get_server_pid(), other.get_server_pid()}
    assert {observation.pid for observation in scene.observations.running} == pids
    assert len({observation.capture_id for observation in scene.observations.running}) == 2
    assert len(scene.records.labelled("inspector.look")) == inspector.observations == 1


async def test_what_the_inspector_runs_is_internal_and_never_observed(
    scene: Scene, inspector: QueryInspector
) -> None:
    internal = NamedQuery(LOCKED, model="outbox", operation="poll", internal=True)
    async with blocked(scene, internal):
        scene.after(10)
        await inspector.observe()
    assert scene.observations.running == []
    async with blocked(scene):
        scene.after(10)
        await inspector.observe()
    assert [kept.record.internal for kept in scene.records.labelled("inspector.look")] == [True]


async def test_a_first_observation_is_one_round_trip(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        scene.records.clear()
        scene.after(0.6)
        await inspector.observe()
        # Above all the driver does not ask about types: that alone would cost a pause of seconds.
        assert [kept.label for kept in scene.records.all] == ["inspector.look"]


async def test_a_prepare_that_waits_for_a_lock_is_observed_as_its_query(
    scene: Scene, inspector: QueryInspector
) -> None:
    async def prepare(connection: TrackedConnection) -> None:
        await connection.prepare(LOCKED)

    async with (
        blocked(scene, blocker="LOCK TABLE accounts") as (holder, _, _),
        waiting(scene, prepare) as (preparing, _),
    ):
        scene.after(0.6)
        await inspector.observe()
        await holder.execute("ROLLBACK")
    seen = {observation.pid: observation for observation in scene.observations.running}[
        preparing.get_server_pid()
    ]
    assert (seen.wait_event, [blocker.pid for blocker in seen.blockers]) == (
        "relation",
        [holder.get_server_pid()],
    )


async def test_no_literal_of_another_session_is_sent(
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
            await inspector.observe()
    assert len(scene.observations.running) == len(texts)
    assert all(observation.blockers[0].query for observation in scene.observations.running)
    assert canary not in repr(scene.observations.running)
    assert canary.encode() not in b"".join(
        observation.SerializeToString() for observation in scene.observations.running
    )


async def test_the_statement_of_a_blocker_of_many_is_normalised_once(
    scene: Scene, inspector: QueryInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    def counted(text: str) -> Normalised:
        texts.append(text)
        return normalise(text)

    monkeypatch.setattr("metrics_service.client.inspector.observation.normalise", counted)
    async with blocked(scene) as (holder, _, _), waiting(scene), waiting(scene):
        scene.after(0.6)
        await inspector.observe()
        await holder.execute("ROLLBACK")
    blockers = [
        blocker.query
        for observation in scene.observations.running
        for blocker in observation.blockers
    ]
    # The holder wrote its value out, and the others wait for the first of them.
    assert len(blockers) > len(texts) == 2


async def test_a_blocker_without_a_name_has_the_name_of_its_type(
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
            await inspector.observe()
            await sender.close()
    (observation,) = scene.observations.running
    assert [blocker.application_name for blocker in observation.blockers] == ["walsender"]


async def test_a_blocker_of_another_role_is_shown_without_its_statement(
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
            await inspector.observe()
            await holder.execute("ROLLBACK")
        pid = holder.get_server_pid()
        await holder.execute(f"DROP OWNED BY {guest}; DROP ROLE {guest}")
    (observation,) = scene.observations.running
    (blocker,) = observation.blockers
    assert (blocker.pid, blocker.state, blocker.query) == (pid, "insufficient privilege", "")


async def test_an_operation_takes_over_the_observation_of_its_part(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with track_query("create", model="bookings", tracker=scene.tracker), blocked(scene):
        scene.after(0.6)
        await inspector.observe()
    (observation,) = scene.observations.running
    (part,) = scene.records.labelled("sql.update")
    (whole,) = scene.records.labelled("bookings.create")
    assert (part.record.capture_id, whole.record.capture_id) == (0, observation.capture_id)


async def test_a_cursor_takes_over_the_observation_of_its_round_trip(
    scene: Scene, inspector: QueryInspector
) -> None:
    async def read(connection: TrackedConnection) -> None:
        locked = "SELECT id FROM accounts WHERE id = $1 FOR UPDATE"
        async with connection.transaction():
            assert [row["id"] async for row in connection.cursor(locked, 1)] == [1]

    async with blocked(scene) as (holder, _, _), waiting(scene, read) as (reader, task):
        scene.after(0.6)
        await inspector.observe()
        await holder.execute("ROLLBACK")
        await task
        pid = reader.get_server_pid()
    (observation,) = [each for each in scene.observations.running if each.pid == pid]
    captures = {
        kept.record.internal: kept.record.capture_id
        for kept in scene.records.labelled("sql.select")
    }
    assert captures == {True: 0, False: observation.capture_id}


async def test_a_query_that_ends_during_its_observation_has_no_capture_id(scene: Scene) -> None:
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

        inspector = QueryInspector(scene.tracker, late, scene.observations, plans=False)
        scene.after(0.6)
        await inspector.observe()
        await inspector.stop()
    assert inspector.observations == 1
    assert scene.observations.running == []
    assert [kept.record.capture_id for kept in scene.records.labelled("sql.update")] == [0]


async def test_a_second_query_on_the_connection_does_not_hide_the_first(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene) as (_, waiter, _):
        with contextlib.suppress(Exception):
            await waiter.fetch("SELECT 1")
        scene.after(0.6)
        await inspector.observe()
        assert [observation.pid for observation in scene.observations.running] == [
            waiter.get_server_pid()
        ]
    outcomes = {kept.label: kept.outcome for kept in scene.records.user}
    assert outcomes == {"sql.select": Outcome.MISUSE, "sql.update": Outcome.OK}


async def test_closed_connections_are_not_kept(scene: Scene) -> None:
    for _ in range(3):
        made = await connect(scene.dsn, tracker=scene.tracker)
        await made.close()
        del made
    # What the event loop still holds goes with its next turns.
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert len(scene.tracker.connections) == 0
