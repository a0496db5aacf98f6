"""Every change of the catalogue is audited with its caller, in its own transaction, for ever."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from booking_service.domain.booking import PaymentKind
from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    ClaimRefunds,
    RefundToClaim,
    SetCapacity,
    UpdatePackage,
)
from booking_service.group_commit import early_payments
from booking_service.group_commit.early_payments import EarlyPayment
from booking_service.group_commit.sweeper import Sweeper
from tests.booking.group_commit.harness import DAY, PRICE, Harness, confirm, copy_of, record


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalog_events SET caller = 'somebody else'",
        "DELETE FROM catalog_events",
        "TRUNCATE catalog_events",
    ],
)
async def test_the_trail_refuses_to_be_changed(harness: Harness, statement: str) -> None:
    await harness.package(capacity=1)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await harness.query(statement)
    assert (await harness.query("SELECT count(*) FROM catalog_events"))[0] == 3


async def test_changes_at_once_by_two_copies_are_one_chain_without_a_gap(harness: Harness) -> None:
    """What each event has as before is what the one before it has as after."""
    package_id = await harness.package(capacity=1, nights=1)
    async with copy_of(harness) as copy:
        await asyncio.gather(
            *(
                (harness, copy)[n % 2].submit(
                    SetCapacity(package_id, (CapacityRange(DAY, DAY + timedelta(days=1), 2 + n),)),
                    caller=f"caller {n}",
                    request_id=uuid4(),
                )
                for n in range(40)
            ),
            *(
                (harness, copy)[n % 2].submit(
                    UpdatePackage(package_id, {"title": f"Room {n}"}, ""), caller=f"caller {n}"
                )
                for n in range(40)
            ),
        )
    connection = await asyncpg.connect(harness.dsn)
    try:
        found = await connection.fetch(
            "SELECT change, runs -> 0 -> 3 AS before, runs -> 0 -> 4 AS after,"
            " fields -> 0 ->> 1 AS title, fields -> 0 ->> 2 AS next_title, caller, request_id,"
            " event_time FROM catalog_events WHERE package_id = $1 ORDER BY id",
            package_id,
        )
        stored = await connection.fetchrow(
            "SELECT p.title, d.capacity FROM packages AS p"
            " INNER JOIN package_days AS d ON d.package_id = p.id WHERE p.id = $1",
            package_id,
        )
    finally:
        await connection.close()
    capacities = [each for each in found if each["change"] == "CAPACITY_SET"]
    titles = [each for each in found if each["change"] == "PACKAGE_UPDATED"]
    assert len(capacities) == 41
    assert len(titles) == 40
    for chain, before, after in ((capacities, "before", "after"), (titles, "title", "next_title")):
        assert [each[before] for each in chain[1:]] == [each[after] for each in chain[:-1]]
    assert stored is not None
    assert (titles[-1]["next_title"], int(capacities[-1]["after"])) == tuple(stored)
    assert all(each["request_id"] for each in capacities[1:])
    assert {each["caller"] for each in titles} == {f"caller {n}" for n in range(40)}
    times = [each["event_time"] for each in found]
    assert times == sorted(times)


async def test_payment_events_and_refunds_name_who_stated_or_requested_them(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=5)
    one, other = await harness.start(package_id), await harness.start(package_id)
    request_id = uuid4()
    # Both in one group, so that each keeps its own.
    await asyncio.gather(
        harness.submit(confirm(one), caller="desk", request_id=request_id),
        harness.submit(record(other, PaymentKind.CAPTURED, PRICE), caller="provider"),
    )
    await harness.submit(CancelBooking(one.id, "", uuid4()), caller="checkout")
    owed = (await harness.query("SELECT id FROM refunds"))["id"]
    claim = ClaimRefunds((RefundToClaim(owed, one.id, package_id),), 60)
    await harness.submit(claim, caller="payouts")
    back = record(one, PaymentKind.REFUNDED, PRICE, refund_id="re")
    await harness.submit(back, caller="provider")
    rows = await harness.query(
        "SELECT array_agg((kind, caller) ORDER BY event_time, caller) AS stated,"
        " (SELECT (state, caller) FROM refunds) AS refund,"
        " (SELECT request_id FROM payment_events WHERE caller = 'desk') AS request_id"
        " FROM payment_events"
    )
    assert rows["stated"] == [
        ("CAPTURED", "desk"),
        ("CAPTURED", "provider"),
        ("REFUNDED", "provider"),
    ]
    # Neither who claimed it nor who paid it out has requested it.
    assert rows["refund"] == ("COMPLETED", "checkout")
    assert rows["request_id"] == request_id


async def test_an_early_payment_keeps_the_caller_that_reported_it(harness: Harness) -> None:
    package_id = await harness.package(capacity=5)
    booked = await harness.start(package_id)
    said = record(booked, PaymentKind.CAPTURED, PRICE)
    await early_payments.keep(harness.database, [EarlyPayment(said, "provider")])
    await Sweeper(harness.database, harness.bus).sweep()
    row = await harness.query("SELECT kind, caller FROM payment_events")
    assert tuple(row) == ("CAPTURED", "provider")
