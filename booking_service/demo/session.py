"""One replay of one file, from seeding to the comparison, against running services."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from booking_service.demo import expected, plan, report, seed
from booking_service.demo.calls import Client
from booking_service.demo.hotel import read_file
from booking_service.demo.replay import Replay
from booking_service.demo.screen import Screen


@dataclass(frozen=True, slots=True)
class Order:
    """What to replay and how: `speed` in days per second, 0 for no limit; `tight` as in plan.py."""

    path: Path
    speed: float = 0.0
    tight: bool = False


async def replay_file(
    order: Order, booking: Client, metrics: Client, today: date, screen: Screen
) -> bool:
    """Replay what is left of the file and compare; return whether every figure is equal.

    Raises FileError before anything is sent; SeedError, RefusalError, UnreachableError.
    """
    hotel = read_file(order.path)
    days = plan.days_of(hotel.stays)
    capacity = plan.capacity_for(days, plan.TIGHT_PERCENT if order.tight else 100)
    shift = await seed.put_on_sale(booking, hotel, capacity, today)
    known = await seed.known_bookings(booking, hotel, capacity)
    guests = {hotel.booking_id(stay.row) for stay in hotel.stays}
    own = [booked for booking_id, booked in known.items() if booking_id in guests]
    others = await report.others_before(metrics, own)

    replay = Replay(booking, hotel, days, known, shift=shift, speed=order.speed)
    screen.say(
        f"{order.path.name}: {len(hotel.stays):,} bookings, {len(own):,} of them already there; "
        f"dates moved by {shift.days // 7} weeks"
    )
    with screen.following(replay.progress) as following:
        progress = await replay.run(following.update)
    if progress.sold_out_rows or progress.sold_out_visits:
        screen.say(
            f"SOLD_OUT: {len(progress.sold_out_rows):,} bookings of the file and "
            f"{progress.sold_out_visits:,} generated visitors found no room"
        )
    if booking.retries:
        screen.say(f"{booking.retries:,} requests were sent again, with their request_id")
    if any(others.values()):
        screen.say(f"Left out below: {others['confirmed']:,} bookings that are not of this file")
    totals = expected.totals(order.path, progress.sold_out_rows)
    lines = await report.compare_when_settled(metrics, hotel, totals, others)
    screen.show(lines)
    return all(line.equal for line in lines)
