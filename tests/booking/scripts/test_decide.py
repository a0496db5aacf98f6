"""Decisions agree with a small model of bookings, for any commands in any order."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings

from booking_service.domain.booking import LIVE, Booking
from booking_service.domain.commands import CreatePackage
from booking_service.domain.decide import decide
from booking_service.domain.inventory import Day
from booking_service.domain.package import Vendor
from booking_service.domain.recount import Recount
from booking_service.domain.world import Changes, World
from tests.booking.scripts.books import ALLOWED, days_from
from tests.booking.scripts.script import DAY, LIMITS, NOW, Script, summary
from tests.booking.scripts.steps import NIGHTS, Step, scripts
from tests.sizes import size

EXAMPLES = size(150, 2_000)


def new_world(script: Script) -> World:
    world = World()
    vendor = Vendor(script.vendor_id, "Vendor", 1, NOW, NOW)
    world.merge(Changes(vendors={vendor.id: vendor}))
    for package in (0, 1):
        world.merge(decide(CreatePackage(script.draft(package)), world, NOW, LIMITS).changes)
        for day in days_from(DAY, NIGHTS):
            world.days[script.packages[package], day] = Day(3)
        world.recounts[script.packages[package], date.min] = Recount(date.min, date.max)
    return world


def observed(script: Script, world: World) -> tuple[object, ...]:
    days = {key: (day.capacity, day.held, day.confirmed) for key, day in world.days.items()}
    return script.observed(
        world.bookings.values(), days, world.payments.values(), world.refunds.values()
    )


# Long enough to shrink a failure.
@pytest.mark.timeout(300)
@settings(max_examples=EXAMPLES, deadline=None)
@given(scripts)
def test_every_decision_equals_the_model(path: list[Step]) -> None:
    script = Script()
    world = new_world(script)
    for step in script.expand(path):
        # Each command has another instant, as in the service.
        script.model.now += timedelta(microseconds=1)
        script.model.turn += 1
        if step[0] == "clock":
            script.clock(step[1][0])
            continue
        planned = script.plan(step)
        if planned is None:
            continue
        decision = decide(planned.command, world, planned.at, LIMITS)
        assert summary(decision.outcome) == planned.expected, planned.command
        world.merge(decision.changes)
        assert observed(script, world) == script.model.figures(), planned.command
        check_money_and_holds(world)


def check_money_and_holds(world: World) -> None:
    """Check what must hold of every world."""
    for day in world.days.values():
        assert day.held >= 0 <= day.confirmed
        assert day.taken <= day.capacity
    for payment in world.payments.values():
        refunds = [r for r in world.refunds.values() if r.payment_id == payment.id]
        left = sum(refund.left_minor for refund in refunds)
        assert all(refund.left_minor >= 0 for refund in refunds)
        assert 0 <= payment.refunded_minor <= payment.refunded_minor + left <= payment.amount_minor
        # All that a booking could not take is owed until it is paid out.
        if payment.state == "REFUND_DUE":
            assert left == payment.amount_minor - payment.refunded_minor
    for booking in world.bookings.values():
        assert 0 <= booking.refunded_minor <= booking.captured_minor
        assert (booking.captured_minor > 0) == (booking.confirm_time is not None)
        assert (booking.end_time is None) == (booking.state in LIVE or booking.state == "CONFIRMED")
        check_history(world, booking)


def check_history(world: World, booking: Booking) -> None:
    """A hold ends once: versions are dense, and only a late payment may follow an end."""
    history = [
        event
        for event in world.events
        if event.booking.id == booking.id and hasattr(event, "transition")
    ]
    assert [event.booking.version for event in history] == list(range(1, booking.version + 1))
    states = [str(event.booking.state) for event in history]
    for before, after in pairwise(states):
        assert (before, after) in ALLOWED, states
