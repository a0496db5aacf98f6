"""The plan of a slow statement is taken once in a while, without values, without literals, and
without ever executing anything.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.inspector.plan_text import MAX_PLAN_BYTES, plan_text
from metrics_service.client.inspector.plans import MAX_PENDING, source_of
from metrics_service.client.queries.record import NamedQuery, Outcome, QueryDefinition
from metrics_service.client.queries.statements import Statement, StatementTable
from metrics_service.client.tracked import TrackedConnection, connect
from tests.metrics.client.inspector.scene import Scene, be_patient, blocked

BY_ID = NamedQuery(
    "SELECT i.name FROM items AS i WHERE i.id = $1 AND i.name <> 'hidden'",
    model="items",
    operation="get",
)


@pytest.fixture
def scene(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    be_patient(monkeypatch)
    return Scene(empty_dsn)


@pytest.fixture
async def inspector(scene: Scene) -> AsyncIterator[QueryInspector]:
    made = scene.inspector()
    yield made
    await made.stop()


@pytest.fixture
async def connection(scene: Scene, inspector: QueryInspector) -> AsyncIterator[TrackedConnection]:
    made = await connect(scene.dsn, tracker=scene.tracker)
    await made.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
    yield made
    await made.close()


@contextlib.contextmanager
def slowly(scene: Scene, s: float = 0.6) -> Iterator[None]:
    """Each query takes that long."""
    former = scene.tracker.monotonic_ns

    def later() -> int:
        scene.after(s)
        return former()

    scene.tracker.monotonic_ns = later
    yield
    scene.tracker.monotonic_ns = former


async def test_the_generic_plan_of_a_slow_statement_is_captured(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    with slowly(scene):
        await connection.fetch(BY_ID, 1)
    await inspector.observe()
    (plan,) = scene.observations.plans
    assert scene.observations.definitions == [BY_ID.definition]
    assert plan.fingerprint == BY_ID.definition.fingerprint
    first, *conditions = plan.plan.splitlines()
    assert first.startswith("Index Scan using items_pkey on items i  (cost=0.")
    assert conditions == [
        "      Index Cond: (id = $1)",
        "      Filter: (name <> ?::text)",
    ]
    assert inspector.observations == 1
    assert all(kept.record.internal for kept in scene.records.all if "inspector" in kept.label)


async def test_the_plan_of_a_query_that_still_runs_follows_its_observation(
    scene: Scene, inspector: QueryInspector
) -> None:
    async with blocked(scene):
        scene.after(0.6)
        await inspector.observe()
        scene.after(0.01)
        assert not scene.observations.plans
        await inspector.observe()
    (plan,) = scene.observations.plans
    assert plan.fingerprint == scene.observations.running[0].fingerprint
    assert plan.plan.startswith("ModifyTable Update on accounts  (cost=")
    assert "Index Cond: (id = $1)" in plan.plan


async def test_no_plan_of_a_query_that_was_not_slow_is_captured(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    with slowly(scene, 0.5):
        await connection.fetch(BY_ID, 1)
    await inspector.observe()
    assert (scene.connects, scene.observations.plans) == (0, [])


async def test_one_plan_of_a_statement_is_captured_per_interval(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    async def slow_again() -> int:
        with slowly(scene):
            await connection.fetch(BY_ID, 1)
            await connection.fetch(BY_ID, 2)
        await inspector.observe()
        scene.after(1)
        await inspector.observe()
        return len(scene.observations.plans)

    assert await slow_again() == 1
    scene.after(590)
    assert await slow_again() == 1
    scene.after(10)
    assert await slow_again() == 2


async def test_one_call_captures_one_plan(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    with slowly(scene):
        await connection.fetch("SELECT id FROM items WHERE id = 7")
        await connection.fetch("SELECT name FROM items WHERE id = 7")
    for expected in (1, 2):
        await inspector.observe()
        assert len(scene.observations.plans) == expected
        scene.after(1)


async def test_no_literal_gets_into_a_plan(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    node = f"{canary}\n  ->  Seq Scan on {canary}  (cost=0.00..1.00 rows=1 width=1)"
    await connection.execute(
        f"CREATE VIEW named AS SELECT * FROM items WHERE name <> E'{node}' AND id <> 73219"
    )
    named = NamedQuery(
        f"SELECT * FROM named WHERE name = '{node}' OR name = $tag${canary}$tag$"
        f" ORDER BY name || '{canary}'",
        model="items",
        operation="named",
    )
    with slowly(scene):
        await connection.fetch(named)
        await connection.fetch(f"SELECT * FROM named WHERE name = '{canary}' AND id = 73219")
    for _ in range(2):
        await inspector.observe()
        scene.after(1)
    assert len(scene.observations.plans) == 2
    told = "\n".join(plan.plan for plan in scene.observations.plans)
    assert "Filter: " in told
    assert "Sort Key: " in told
    assert canary not in told
    assert "73219" not in told


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; DROP TABLE items",
        "WITH gone AS (SELECT 1) SELECT 2; DROP TABLE items; SELECT 3",
        "DELETE FROM items",
        "WITH gone AS (DELETE FROM items RETURNING 1) SELECT * FROM gone",
    ],
)
async def test_nothing_is_ever_executed(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection, text: str
) -> None:
    await connection.execute("INSERT INTO items VALUES (1, 'a')")
    for slow in (
        NamedQuery(text, model="items", operation="more"),
        Statement(QueryDefinition(1, "sql", "select", text), False, False),
    ):
        scene.tracker.slow(slow)
        await inspector.observe()
        scene.after(10)
    several = ";" in text
    assert (inspector.plan_errors, len(scene.observations.plans)) == ((2, 0) if several else (0, 2))
    assert await connection.fetchval("SELECT count(*) FROM items") == 1
    assert scene.connects == 1


async def test_a_statement_that_cannot_be_planned_is_tried_once(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    gone = NamedQuery("SELECT * FROM nothing_like_it", model="items", operation="gone")
    for _ in range(3):
        scene.tracker.slow(gone)
        await inspector.observe()
        scene.after(10)
    assert (inspector.plan_errors, scene.connects, scene.observations.plans) == (1, 1, [])
    # The connection is as good as before.
    with slowly(scene):
        await connection.fetch(BY_ID, 1)
    await inspector.observe()
    assert (scene.connects, len(scene.observations.plans)) == (1, 1)


async def test_nothing_stays_prepared(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    # One that can be planned, and one that can be prepared only.
    for slow in (BY_ID, NamedQuery("SELECT 1 / 0", model="items", operation="zero")):
        scene.tracker.slow(slow)
        await inspector.observe()
        scene.after(10)
    assert (len(scene.observations.plans), inspector.plan_errors) == (1, 1)
    (own,) = scene.connected
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'inspected%'"
    assert await own.fetchval(prepared) == 0


async def test_a_statement_on_a_locked_table_is_tried_again_later(
    scene: Scene, inspector: QueryInspector, connection: TrackedConnection
) -> None:
    holder = await asyncpg.connect(scene.dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        scene.tracker.slow(BY_ID)
        await inspector.observe()
    finally:
        await holder.close()
    assert (inspector.plan_errors, scene.observations.plans) == (0, [])
    refused = [kept for kept in scene.records.all if kept.outcome is Outcome.ERROR]
    assert [(kept.record.internal, kept.record.sqlstate) for kept in refused] == [(True, "55P03")]
    scene.after(29)
    await inspector.observe()
    assert scene.observations.plans == []
    scene.after(2)
    await inspector.observe()
    assert len(scene.observations.plans) == 1


async def test_a_server_that_is_too_old_gets_no_request(scene: Scene) -> None:
    class Old:
        def get_server_version(self) -> asyncpg.ServerVersion:
            return asyncpg.ServerVersion(15, 4, 0, "final", 0)

        def is_closed(self) -> bool:
            return False

        def terminate(self) -> None:
            pass

    async def old(_: object) -> object:
        return Old()

    inspector = QueryInspector(scene.tracker, old, scene.observations)  # type: ignore[arg-type]  # refuses all else
    for _ in range(3):
        scene.tracker.slow(BY_ID)
        await inspector.observe()
        scene.after(10)
    assert (scene.observations.plans, inspector.plan_errors) == ([], 0)
    await inspector.stop()


async def test_no_plan_is_captured_when_switched_off(scene: Scene) -> None:
    inspector = scene.inspector(plans=False)
    scene.tracker.slow(BY_ID)
    await inspector.observe()
    assert (scene.connects, inspector.observations) == (0, 0)


async def test_statements_that_wait_for_their_plan_are_bounded(
    scene: Scene, inspector: QueryInspector
) -> None:
    for n in range(MAX_PENDING + 5):
        scene.tracker.slow(NamedQuery("SELECT 1", model="many", operation=f"n{n}"))
    assert inspector.skipped == 5


def test_only_whole_statements_that_have_a_plan_are_planned() -> None:
    table = StatementTable()

    def source(text: str) -> str | None:
        return source_of(table.statement(text))

    assert source("SELECT * FROM t WHERE a = 5") == "SELECT * FROM t WHERE a = $1"
    assert source("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x") is not None
    assert source_of(BY_ID) == BY_ID.sql
    assert source_of(NamedQuery("-- why\n/* how */ UPDATE t SET a = 1", model="a", operation="b"))
    for text in (
        "CREATE TABLE t (a int)",
        "COPY t TO STDOUT",
        "CALL something(5)",
        # Masked without the parser, cut, or both.
        "SELECT 'a' FROM WHERE",
        f"SELECT {', '.join(f'c{n}' for n in range(1000))} FROM t",
        f"SELECT 'a' /* {'x' * 20_000} */",
    ):
        assert source(text) is None, text


def test_a_long_plan_is_cut_after_a_line() -> None:
    costs = {"Startup Cost": 0, "Total Cost": 1, "Plan Rows": 1, "Plan Width": 1}
    leaf = {"Node Type": "Seq Scan", "Relation Name": "part", "Filter": "(a = 'é')", **costs}
    document = json.dumps([{"Plan": {"Node Type": "Append", "Plans": [leaf] * 500, **costs}}])
    text = plan_text(document)
    assert len(text.encode()) <= MAX_PLAN_BYTES
    *lines, last = text.splitlines()
    assert last == "..."
    assert lines[0] == "Append  (cost=0.00..1.00 rows=1 width=1)"
    assert lines[1] == "      ->  Seq Scan on part  (cost=0.00..1.00 rows=1 width=1)"
    assert set(lines[2::2]) == {"            Filter: (a = ?)"}
    with pytest.raises(ValueError, match="too long"):
        plan_text(" " * 300_000)
