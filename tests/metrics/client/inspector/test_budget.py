"""Observing stays within its budget; a database that does not answer costs the service nothing."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest
import structlog

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.inspector import inspector as inspector_module
from metrics_service.client.inspector.budget import Budget
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import TrackedConnection
from tests.metrics.client.inspector.scene import Scene, blocked, waiting
from tests.metrics.client.recording import Clock


async def test_a_postponed_observation_follows_later(scene: Scene) -> None:
    class Slow(TrackedConnection):
        __slots__ = ()

        async def fetch(self, *args: Any, **options: Any) -> Any:
            # So that a query that became due right after the other does within the pause.
            scene.after(0.003)
            return await super().fetch(*args, **options)

    async def slow(_: Mapping[str, str]) -> TrackedConnection:
        return await asyncpg.connect(scene.dsn, connection_class=Slow)

    inspector = QueryInspector(scene.tracker, slow, scene.observations, plans=False)
    async with blocked(scene) as (holder, waiter, _):
        scene.after(0.1)
        async with waiting(scene) as (other, _):
            for _ in range(45):
                scene.after(0.1)
                await inspector.observe()
            await holder.execute("ROLLBACK")
            pids = [waiter.get_server_pid(), other.get_server_pid()]
    await inspector.stop()
    seen = [observation.pid for observation in scene.observations.running]
    assert [seen.count(pid) for pid in pids] == [4, 4]
    assert inspector.skipped > 0


async def test_observations_per_minute_are_limited(scene: Scene) -> None:
    inspector = scene.inspector(plans=False, per_minute=2)
    async with blocked(scene):
        for s in (0.6, 0.5, 1, 2, 4, 8, 16):
            scene.after(s)
            await inspector.observe()
        assert (inspector.observations, inspector.skipped) == (2, 5)
        scene.after(32)
        await inspector.observe()
        assert (inspector.observations, inspector.skipped) == (3, 5)
    await inspector.stop()


async def test_after_a_slow_observation_there_is_none_for_a_hundred_times_as_long() -> None:
    clock = Clock()
    budget = Budget(60, clock.monotonic_ns)
    assert budget.take()
    budget.took(20_000_000)
    clock.s += 1.999
    assert not budget.take()
    clock.s += 0.002
    assert budget.take()


async def test_a_database_that_does_not_answer_is_observed_less_and_less_often() -> None:
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


async def test_an_unreachable_database_raises_nothing(scene: Scene) -> None:
    attempts = 0

    async def refused(_: Mapping[str, str]) -> TrackedConnection:
        nonlocal attempts
        attempts += 1
        raise ConnectionRefusedError

    inspector = QueryInspector(scene.tracker, refused, scene.observations, plans=False)
    async with blocked(scene):
        for s in (0.6, 0.5, 1, 2):
            scene.after(s)
            await inspector.observe()
    assert (attempts, inspector.observations, inspector.skipped) == (3, 0, 1)
    assert [kept.outcome for kept in scene.records.user] == [Outcome.OK]


async def test_an_outage_is_logged_once_and_its_end_once(scene: Scene) -> None:
    refusing = True
    secret = secrets.token_hex(8)

    async def pooler(settings: Mapping[str, str]) -> TrackedConnection:
        if refusing:
            raise asyncpg.ProtocolViolationError(f"unsupported startup parameter: {secret}")
        return await scene.connect(settings)

    inspector = QueryInspector(scene.tracker, pooler, scene.observations, plans=False)
    async with blocked(scene):
        with structlog.testing.capture_logs() as logged:
            for s in (0.6, 1, 2, 4):
                scene.after(s)
                await inspector.observe()
            refusing = False
            for s in (8, 16, 32):
                scene.after(s)
                await inspector.observe()
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
        await inspector.observe()
        mine = "query LIKE '%observed%' AND pid <> pg_backend_pid()"
        await holder.fetch(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}"
        )
        for s in (1, 2, 4):
            scene.after(s)
            await inspector.observe()
    assert scene.connects == 2
    assert len(scene.observations.running) in (3, 4)
    assert [kept.outcome for kept in scene.records.user] == [Outcome.OK]


async def test_stopping_does_not_wait_for_the_server(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector_module, "DEADLINE_S", 3600.0)
    asked = asyncio.Event()

    async def never(_: Mapping[str, str]) -> TrackedConnection:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    inspector = QueryInspector(scene.tracker, never, scene.observations, interval_s=0.001)
    async with blocked(scene):
        scene.after(0.6)
        inspector.start()
        async with asyncio.timeout(10):
            await asked.wait()
            await inspector.stop()


async def test_it_never_connects_when_switched_off(scene: Scene) -> None:
    inspector = scene.inspector(running=False, plans=False)
    async with blocked(scene):
        scene.after(60)
        await inspector.observe()
    await inspector.observe()
    assert (scene.connects, inspector.observations, inspector.skipped) == (0, 0, 0)
