"""Two copies of the service over one database agree with the model after every step: commands in
groups, requests that are repeated, callers that give up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from booking_service.domain.booking import Refund
from booking_service.domain.commands import (
    CapacityRange,
    Command,
    CreatePackage,
    CreateVendor,
    SetCapacity,
)
from booking_service.domain.refusal import Refused
from booking_service.group_commit.bus import CommandBus
from booking_service.storage import rows
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.scripts.books import Outcome
from tests.booking.scripts.script import ALONE, DAY, LIMITS, NOW, Planned, Script, summary
from tests.booking.scripts.steps import NIGHTS, Step, scripts
from tests.sizes import size

EXAMPLES = size(25, 300)

# With each step: whether it starts a new group, which copy gets it, and its fate: it is repeated
# ("r"), its caller cancels after that many turns of the loop, or nothing (".").
manners = st.tuples(st.booleans(), st.integers(0, 1), st.sampled_from([*"....rrr", *"01238"]))


class Service:
    """Two copies of the service, and an observer of their database."""

    def __init__(
        self, clock: SetClock, copies: list[CommandBus], observer: asyncpg.Connection
    ) -> None:
        self.clock = clock
        self.copies = copies
        self.observer = observer

    async def ask(self, command: Command, request_id: UUID, copy: int) -> Outcome:
        try:
            answer = await self.copies[copy].submit(
                command, caller="test", rpc="Test", request_id=request_id, fingerprint=b"same"
            )
        except Refused as refused:
            return summary(refused.refusal)
        return summary(answer)

    async def begin(self, script: Script) -> None:
        self.clock.time = script.model.now
        await self.ask(CreateVendor(script.vendor_id, "Vendor"), uuid4(), 0)
        for package in (0, 1):
            await self.ask(CreatePackage(script.draft(package)), uuid4(), 0)
            days = CapacityRange(DAY, DAY + timedelta(NIGHTS), 3)
            await self.ask(SetCapacity(script.packages[package], (days,)), uuid4(), 0)

    async def observed(self, script: Script) -> tuple[object, ...]:
        bookings = await self.observer.fetch(
            "SELECT * FROM bookings WHERE package_id = ANY($1)", script.packages
        )
        days = await self.observer.fetch(
            "SELECT * FROM package_days WHERE package_id = ANY($1)", script.packages
        )
        ids = [row["id"] for row in bookings]
        payments = await self.observer.fetch(
            "SELECT * FROM payments WHERE booking_id = ANY($1)", ids
        )
        columns = ", ".join(field.name for field in fields(Refund))
        refunds = await self.observer.fetch(
            f"SELECT {columns} FROM refunds WHERE booking_id = ANY($1)", ids
        )
        return script.observed(
            [rows.booking(row) for row in bookings],
            {
                (day["package_id"], day["day"]): (day["capacity"], day["held"], day["confirmed"])
                for day in days
            },
            [rows.payment(row) for row in payments],
            [rows.refund(row) for row in refunds],
        )

    async def unexplained(self, script: Script) -> int:
        """Count the bookings whose audit trail is not one row for each of their versions."""
        count: int = await self.observer.fetchval(
            """
            SELECT count(*) FROM bookings AS b
            WHERE b.package_id = ANY($1) AND b.version <> ALL (
                SELECT unnest(ARRAY[count(*), max(e.version)]) FROM booking_events AS e
                WHERE e.booking_id = b.id
            )
            """,
            script.packages,
        )
        return count


@asynccontextmanager
async def serving(dsn: str) -> AsyncIterator[Service]:
    clock = SetClock(NOW)
    databases = [Database(dsn, clock=clock, pool_size=4) for _ in range(2)]
    copies = []
    for database in databases:
        await database.open()
        # Large enough that no command is refused because the machine was paused.
        copies.append(CommandBus(database, limits=LIMITS, max_wait_s=60.0))
        copies[-1].start()
    observer = await asyncpg.connect(dsn)
    try:
        yield Service(clock, copies, observer)
    finally:
        await observer.close()
        for copy, database in zip(copies, databases, strict=True):
            await copy.stop()
            await database.close()


async def follow(
    service: Service, script: Script, path: list[tuple[Step, tuple[bool, int, str]]]
) -> None:
    """Carry out a script, comparing after each group."""
    await service.begin(script)
    plain = [(step, manner) for long, manner in path for step in script.expand([long])]
    while plain:
        group, plain = next_group(plain)
        await carry_out(service, script, group)
        assert await service.observed(script) == script.model.figures(), group
    assert await service.unexplained(script) == 0


def next_group(
    plain: list[tuple[Step, tuple[bool, int, str]]],
) -> tuple[list[tuple[Step, tuple[bool, int, str]]], list[tuple[Step, tuple[bool, int, str]]]]:
    """Return the next steps, which are submitted together, and the steps after them."""
    size = 1
    if plain[0][0][0] not in ALONE and plain[0][1][2] in ".r":
        for step, (apart, _, fate) in plain[1:4]:
            if apart or step[0] in ALONE or fate not in ".r":
                break
            size += 1
    return plain[:size], plain[size:]


async def carry_out(
    service: Service, script: Script, group: list[tuple[Step, tuple[bool, int, str]]]
) -> None:
    script.model.turn += 1
    known = len(script.bookings)
    _, (_, copy, fate) = group[0]
    if group[0][0][0] == "clock":
        script.clock(group[0][0][1][0])
        service.clock.time = script.model.now
        return
    asked: list[tuple[Planned, UUID]] = []
    for step, _ in group:
        planned = script.plan(step, known=known)
        if planned is not None:
            asked.append((planned, uuid4()))
    if not asked:
        return
    if fate not in ".r":
        # Whether or not it was carried out, a retry gets the answer, and it is carried out once.
        await give_up(service, *asked[0], copy=copy, turns=int(fate))
    answers = await asyncio.gather(
        *(service.ask(planned.command, request_id, copy) for planned, request_id in asked)
    )
    for (planned, _), answer in zip(asked, answers, strict=True):
        assert answer == planned.expected, planned.command
    if fate == "r":
        for planned, request_id in asked:
            if planned.kept:
                # Also from the other copy, and after other changes.
                again = await service.ask(planned.command, request_id, 1 - copy)
                assert again == planned.expected, planned.command


async def give_up(
    service: Service, planned: Planned, request_id: UUID, *, copy: int, turns: int
) -> None:
    caller = asyncio.create_task(service.ask(planned.command, request_id, copy))
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])


# Needed at full size.
@pytest.mark.timeout(300)
def test_the_database_equals_the_model_after_every_step(booking_dsn: str) -> None:
    with asyncio.Runner() as runner:
        serving_here = serving(booking_dsn)
        service = runner.run(serving_here.__aenter__())
        try:
            # One database for all scripts: each has other packages and users.
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                # Shrinking takes minutes here, and seconds in test_decide, without a database.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )
            @given(scripts.flatmap(_with_manners))
            def scripted(path: list[tuple[Step, tuple[bool, int, str]]]) -> None:
                runner.run(follow(service, Script(), path))

            scripted()
        finally:
            runner.run(serving_here.__aexit__(None, None, None))


def _with_manners(
    script: list[Step],
) -> st.SearchStrategy[list[tuple[Step, tuple[bool, int, str]]]]:
    return st.tuples(*(manners for _ in script)).map(
        lambda chosen: list(zip(script, chosen, strict=True))
    )
