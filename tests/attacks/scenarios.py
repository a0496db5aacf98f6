"""Attacks that end or change what the pair runs on, so that nobody else is measured meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc
from tests.allowance import Stopwatch, allowed_s
from tests.attacks import terminal
from tests.attacks.clocks import stepped
from tests.attacks.leaders import leader, metrics_frozen_shortly, metrics_replaced, relay_replaced
from tests.attacks.liars import ENDS, FALSE_ACKS, FALSE_WELCOMES, REFUSALS, liar
from tests.attacks.processes import World
from tests.attacks.rows.requests import channel_to
from tests.attacks.strangers.acts import STRANGERS
from tests.attacks.strangers.forgers import forgers
from tests.attacks.strangers.operators import operators
from tests.attacks.strangers.stage import staged
from tests.attacks.strike import ANSWER_S, Strike, Tally, code_of
from tests.attacks.town import Town, in_days
from tests.pair.real_pair import ROOT
from tests.read_only import read_only

LISTENS_S: Final = 2.0
SERVES_S: Final = 10.0
HEALS_S: Final = 30.0
WRITES: Final = 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """A variant of one row of the table, which is run once."""

    row: int
    name: str
    run: Callable[[World], Tally]


def scenarios() -> list[Scenario]:
    """Every scenario, in the order in which they are run."""
    return [
        Scenario(1, "a kill of the metrics, whose log holds all that was sent", _killed_metrics),
        Scenario(2, "acts of others, where callers have certificates", staged(*STRANGERS)),
        Scenario(2, "acts of others, where callers have tokens", staged(*STRANGERS, tokens=True)),
        Scenario(3, "forged facts and epochs, where callers have certificates", staged(forgers)),
        Scenario(8, "TLS: our programs, rotation, bad files, SIGHUP", staged(operators)),
        Scenario(9, "a clock that is 400 days ahead for 3 s", stepped(400)),
        Scenario(9, "a clock that is 400 days behind for 3 s", stepped(-400)),
        Scenario(9, "a start while the clock is 400 days ahead", stepped(400, restarts=True)),
        Scenario(10, "metrics frozen, replaced and thawed", leader(metrics_replaced)),
        Scenario(10, "metrics frozen for 2 s amid bookings, twice", leader(metrics_frozen_shortly)),
        Scenario(10, "a relay frozen, replaced and thawed", leader(relay_replaced)),
        Scenario(12, "a metrics database that becomes read-only", _read_only_metrics),
        *(
            Scenario(13, f"make watch, of {name}", _watched(texts))
            for name, texts in terminal.TEXTS.items()
        ),
        *_tests(
            (
                18,
                "facts while the metrics are away",
                "tests/booking/delivery/test_delivery_budget.py",
            ),
            (18, "a log beyond its size", "tests/metrics/eventlog/test_budgets.py"),
            (18, "vendors, payments, answers", "tests/booking/group_commit/test_rooms.py"),
        ),
        Scenario(19, "a sink whose acknowledgements lie", liar(*FALSE_ACKS)),
        Scenario(19, "a sink whose Welcome lies", liar(*FALSE_WELCOMES)),
        Scenario(19, "a sink that refuses at will", liar(*REFUSALS)),
        Scenario(19, "a sink that ends every stream", liar(*ENDS)),
        *_tests((20, "a clean stop amid work", "tests/metrics/test_clean_stop.py")),
        Scenario(20, "a kill of the bookings", lambda world: _restart(world, "booking_service")),
        Scenario(20, "a clean stop of the metrics", _stopped_metrics),
        # Last: for five minutes health rightly says how many queries have failed.
        Scenario(12, "a booking database that becomes read-only", _read_only_bookings),
        Scenario(12, "a server that becomes read-only under open sessions", _read_only_server),
    ]


def _tests(*named: tuple[int, str, str]) -> list[Scenario]:
    """Scenarios that exist as tests, with processes of their own."""
    return [
        Scenario(row, f"{name} ({path.removeprefix('tests/')})", _tested(path))
        for row, name, path in named
    ]


def _tested(path: str) -> Callable[[World], Tally]:
    def run(_: World) -> Tally:
        tally = Tally()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        counted = {what: int(number) for number, what in _COUNTED.findall(done.stdout)}
        tally.tried = sum(counted.values())
        tally.failed = tally.tried - counted.get("passed", 0)
        tally.check(done.returncode == 0, done.stdout[-300:])
        return tally

    return run


_COUNTED: Final = re.compile(r"(\d+) (passed|failed|error)")


def _with_loop(run: Callable[[World, Tally], Awaitable[None]]) -> Callable[[World], Tally]:
    def scenario(world: World) -> Tally:
        tally = Tally()
        asyncio.run(_run(run, world, tally))
        return tally

    return scenario


async def _run(run: Callable[[World, Tally], Awaitable[None]], world: World, tally: Tally) -> None:
    try:
        await run(world, tally)
    except Exception as error:
        tally.check(False, f"{type(error).__name__}: {error}")


# Row 12.


async def _write(channel: Any, town: Town, number: int) -> str:
    stub: Any = booking_pb2_grpc.BookingServiceStub(channel)
    return await code_of(
        stub.StartBooking(
            booking_pb2.StartBookingRequest(
                package_id=town.packages[0],
                user_id=f"writer {number}",
                start_date=in_days(2),
                end_date=in_days(3),
            ),
            timeout=ANSWER_S,
        )
    )


async def _healed(try_: Callable[[], Awaitable[bool]], tally: Tally, what: str) -> None:
    """Check that something holds again by itself."""
    with Stopwatch() as passed:
        # Of another process, which sets no event.
        while not (holds := await try_()) and passed.s < allowed_s(HEALS_S):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    tally.check(holds, what)


async def _bookings_refuse(
    world: World, tally: Tally, unwritable: AbstractAsyncContextManager[None]
) -> None:
    """While a database cannot be written, writes are UNAVAILABLE and reads are answered."""
    async with channel_to(world.at.booking) as channel:
        town = await Town.built(channel, packages=1, days=10)
        catalog: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        package = catalog_pb2.GetPackageRequest(package_id=town.packages[0])
        async with unwritable:
            # The first calls meet sessions that have ended.
            for number in range(WRITES):
                code = await _write(channel, town, number)
                tally.check(code == "UNAVAILABLE", f"StartBooking answered {code}")
            code = await code_of(catalog.GetPackage(package, timeout=ANSWER_S))
            tally.check(code == "OK", f"GetPackage answered {code}")

        async def writes() -> bool:
            return await _write(channel, town, WRITES) == "OK"

        await _healed(writes, tally, "StartBooking is not OK once the database can be written")


async def _metrics_answer(
    world: World, tally: Tally, unwritable: AbstractAsyncContextManager[None]
) -> None:
    """While the log cannot be written, bookings go on and the metrics are read."""
    async with channel_to(world.at.booking) as channel:
        town = await Town.built(channel, packages=1, days=10)
        async with unwritable:
            for number in range(WRITES):
                code = await _write(channel, town, number)
                tally.check(code == "OK", f"StartBooking answered {code}")
        strike = Strike(world.at)

        async def served() -> bool:
            strike.tally = Tally()
            await strike.readers_are_served()
            return not strike.tally.failed

        await _healed(served, tally, "readers are not served once the log can be written")


_read_only_bookings = _with_loop(
    lambda world, tally: _bookings_refuse(world, tally, read_only(world.dsns["booking_service"]))
)
_read_only_metrics = _with_loop(
    lambda world, tally: _metrics_answer(world, tally, read_only(world.dsns["metrics_service"]))
)


@asynccontextmanager
async def _read_only_for_all(dsn: str) -> Any:
    """Every transaction of the server is read-only, those of open sessions too."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        while await _setting(dsn) != "on":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        # Open sessions take it up before their next statement.
        await asyncio.sleep(0.5)
        yield
    finally:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


async def _setting(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval("SHOW default_transaction_read_only"))
    finally:
        await connection.close()


_read_only_server = _with_loop(
    lambda world, tally: _bookings_refuse(
        world, tally, _read_only_for_all(world.dsns["booking_service"])
    )
)


# Row 13.


def _watched(texts: tuple[str, ...]) -> Callable[[World], Tally]:
    return _with_loop(lambda world, tally: terminal.watch(world.at, tally, texts))


# Rows 1 and 20.


def _killed_metrics(world: World) -> Tally:
    tally = _restart(world, "metrics_service")
    strike = Strike(world.at)

    async def served() -> bool:
        strike.tally = Tally()
        await strike.readers_are_served()
        return not strike.tally.failed

    asyncio.run(_healed(served, tally, "readers are not served after a restart"))
    return tally


def _restart(world: World, service: str, *, kill: bool = True) -> Tally:
    """End a service and start it again; check when its health listens and when it serves."""
    tally = Tally()
    if kill:
        world.pair.kill(service)
    target = world.at.booking if service == "booking_service" else world.at.metrics
    with Stopwatch() as passed:
        times: list[float] = []

        def look() -> None:
            while not _listens(target) and passed.s < ANSWER_S:
                continue
            times.append(passed.s)

        looking = threading.Thread(target=look, name="is it listening")
        looking.start()
        # Not in the other thread: a service ends with the thread that has started it.
        world.pair.start(service)
        serves_s = passed.s
        looking.join()
        listens_s = times[0]
    world.restarted(service)
    tally.check(
        listens_s <= allowed_s(LISTENS_S), f"health listens after {listens_s:.1f} s of the start"
    )
    tally.check(
        serves_s <= allowed_s(SERVES_S), f"{service} serves after {serves_s:.1f} s of the start"
    )
    return tally


def _listens(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
        except grpc.RpcError:
            time.sleep(0.02)
            return False
    return True


def _stopped_metrics(world: World) -> Tally:
    """A clean stop leaves nothing to fold again."""
    pid = world.pair.pid("metrics_service")
    os.kill(pid, signal.SIGTERM)
    world.pair.ended("metrics_service", ANSWER_S)
    tally = Tally()

    async def folded() -> None:
        connection = await asyncpg.connect(world.dsns["metrics_service"])
        try:
            saved = await connection.fetchval("SELECT position FROM checkpoint")
            newest = await connection.fetchval(
                "SELECT max(position) FROM event_log WHERE kind = 'batch'"
            )
        finally:
            await connection.close()
        tally.check(saved >= newest, f"the checkpoint is at {saved}, the log at {newest}")

    asyncio.run(folded())
    tally.add(_restart(world, "metrics_service", kill=False))
    return tally
