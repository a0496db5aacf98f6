"""Which index each statement of a group of commands is served by, with the planner's own costs:
what runs under a package's lock must not grow with the tables.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from tests.booking.plans.explained import DAY, LARGE, NOW, explain, seeded_id

# The first of them fills the database.
pytestmark = pytest.mark.timeout(180)

PACKAGES = sorted(seeded_id(f"package{n}") for n in (17, 400, 1300))
BOOKINGS = sorted(seeded_id(f"booking{n}") for n in (22, 41, 160_000))
USERS = ["user 22", "user 41"]

SPANS = (PACKAGES, [DAY] * 3, [DAY + timedelta(3)] * 3)
PAID = (["provider"], [str(BOOKINGS[0])])

PLANS: list[tuple[str, tuple[object, ...], set[str]]] = [
    ("packages.lock", (PACKAGES,), {"packages_pkey"}),
    ("packages.lock_free", (PACKAGES,), {"packages_pkey"}),
    ("packages.existing", (PACKAGES,), {"packages_pkey"}),
    ("bookings.packages_of", (BOOKINGS,), {"bookings_pkey"}),
    ("bookings.load", (BOOKINGS,), {"bookings_pkey"}),
    ("bookings.load_live_of_users", (USERS, NOW), {"bookings_user_live"}),
    ("bookings.load_lapsed_overlapping", (*SPANS, NOW, 400, 20), {"bookings_live_holds"}),
    ("bookings.load_lapsed", (PACKAGES[:1], NOW, 500), {"bookings_live_holds"}),
    ("inventory.load", SPANS, {"package_days_pkey"}),
    (
        "inventory.next_dates",
        (PACKAGES, [DAY] * 3, 366),
        {"package_days_pkey", "idx_bookings_package_date"},
    ),
    (
        "inventory.recount",
        (PACKAGES, [DAY] * 3, [DAY + timedelta(200)] * 3, 366),
        {"package_days_pkey", "idx_bookings_package_date"},
    ),
    (
        "payments.load",
        (BOOKINGS, *PAID),
        {"idx_payments_booking_status", "payments_provider_key"},
    ),
    ("payments.load_events", PAID, {"payment_events_pkey"}),
    ("refunds.load", (BOOKINGS,), {"refunds_booking"}),
    ("reviews.load", (BOOKINGS,), {"reviews_one_per_booking"}),
    ("profiles.load", (USERS,), {"idx_user_profiles_user"}),
    (
        "inventory.change",
        ([PACKAGES[0]], [DAY], [0], [1], [0]),
        {"package_days_pkey"},
    ),
    ("packages.update", ([PACKAGES[0]], *[[None]] * 15), {"packages_pkey"}),
    ("bookings.update", (BOOKINGS[:1], *[[None]] * 18), {"bookings_pkey"}),
    ("bookings.load_ended", (PACKAGES[:1], [DAY], 500), {"bookings_confirmed_end"}),
    ("sweeper.ended_packages", (DAY, 200), {"bookings_confirmed_end"}),
    ("refill.read_bookings", (BOOKINGS[0], 1, 400), {"booking_events_pkey"}),
    (
        "refill.read_payments",
        ("provider", str(BOOKINGS[0]), "CAPTURED", "", 400),
        {"payment_events_pkey"},
    ),
    (
        "refill.captured",
        (BOOKINGS,),
        {"idx_payments_booking_status", "payment_events_pkey"},
    ),
]


@pytest.mark.parametrize(
    ("name", "args", "expected"), [pytest.param(*plan, id=plan[0]) for plan in PLANS]
)
async def test_statement_of_a_group_is_served_by_its_index(
    connection: asyncpg.Connection[asyncpg.Record],
    name: str,
    args: tuple[object, ...],
    expected: set[str],
) -> None:
    plan = await explain(connection, name, *args)
    assert plan.indexes == expected
    assert plan.scanned & LARGE == set()


async def test_answer_is_looked_up_by_key_in_every_slot_that_has_any(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    plan = await explain(
        connection,
        "idempotency.find",
        *(["web"], ["StartBooking"], [seeded_id("request8")], NOW - timedelta(1)),
    )
    assert {f"idempotency_keys_{slot}_pkey" for slot in range(7)} <= plan.indexes
    assert plan.scanned & LARGE == set()


async def test_lapsed_holds_are_found_among_live_holds_alone(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    plan = await explain(connection, "sweeper.lapsed_packages", NOW, 200)
    # Both hold nothing but live holds; which one is cheaper depends on how many have lapsed.
    assert plan.indexes & {"bookings_lapsed", "bookings_live_holds"} == plan.indexes != set()
    assert plan.scanned == set()
