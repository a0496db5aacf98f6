"""Compares what metrics_service shows after a replay with what the file requires it to show.

Other bookings in the same database are subtracted first, as they were before the replay, so that
the comparison covers the bookings of this file and all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from booking_service.demo.calls import Client
from booking_service.demo.expected import Totals
from booking_service.demo.hotel import CURRENCY, HotelFile, Offer
from booking_service.demo.seed import Known
from protos.booking.v1 import booking_pb2
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc

SETTLE_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.2
_EVER_CONFIRMED: Final = frozenset(
    {booking_pb2.Booking.CONFIRMED, booking_pb2.Booking.FULFILLED, booking_pb2.Booking.CANCELLED}
)
_MONEY: Final = ("gross", "refunded", "net")

Figures = Counter[str]
"""Confirmed, cancelled, gross, refunded, net (cents), and confirmed and cancelled by package id."""


class Line(NamedTuple):
    """One figure of the comparison, as text."""

    name: str
    expected: str
    shown: str
    equal: bool


def figures_of(snapshot: metrics_pb2.MetricsSnapshot) -> Figures:
    """Return what metrics_service shows, in the demo's currency."""
    business = snapshot.business
    figures = Counter({"confirmed": business.confirmed, "cancelled": business.cancelled})
    for revenue in business.revenue:
        if revenue.currency == CURRENCY:
            figures["gross"] = revenue.gross_minor
            figures["refunded"] = revenue.refunded_minor
            figures["net"] = revenue.net_minor
    for package in business.packages:
        figures[f"confirmed {package.package_id}"] = package.confirmed
        figures[f"cancelled {package.package_id}"] = package.cancelled
    return figures


def figures_of_known(bookings: Iterable[Known]) -> Figures:
    """Sum the bookings that are in the booking database."""
    figures = Counter[str]()
    for booking in bookings:
        if booking.state not in _EVER_CONFIRMED:
            continue
        figures["gross"] += booking.price_minor
        figures["refunded"] += booking.refunded_minor
        figures["net"] += booking.price_minor - booking.refunded_minor
        figures["confirmed"] += 1
        figures[f"confirmed {booking.package_id}"] += 1
        if booking.state == booking_pb2.Booking.CANCELLED:
            figures["cancelled"] += 1
            figures[f"cancelled {booking.package_id}"] += 1
    return figures


def figures_of_file(hotel: HotelFile, totals: Totals) -> Figures:
    """Return what the metrics must show for the file."""
    figures = Counter(
        confirmed=totals.confirmed,
        cancelled=totals.cancelled,
        gross=totals.gross_minor,
        refunded=totals.refunded_minor,
        net=totals.net_minor,
    )
    for room, confirmed in totals.confirmed_by_room.most_common():
        package_id = hotel.package_id(Offer(*room))
        figures[f"confirmed {package_id}"] = confirmed
        figures[f"cancelled {package_id}"] = totals.cancelled_by_room[room]
    return figures


async def get_figures(client: Client) -> Figures:
    """Read the figures of all time."""
    stub = metrics_pb2_grpc.MetricsServiceStub(client.channel)
    return figures_of(await client.call(stub.GetMetrics, metrics_pb2.GetMetricsRequest()))


async def others_before(client: Client, own: Iterable[Known]) -> Figures:
    """Return what the metrics have beside `own`, the bookings of the file so far.

    Waits until the metrics equal `own`, or until two readings a second apart agree and contain
    `own`; after `SETTLE_TIMEOUT_S` the last reading counts.
    """
    known = figures_of_known(own)
    give_up = time.monotonic() + SETTLE_TIMEOUT_S
    shown = await get_figures(client)
    while shown != known and time.monotonic() < give_up:
        before = shown
        await asyncio.sleep(1.0)
        shown = await get_figures(client)
        if shown == before and shown >= known:
            break
    others = Counter(shown)
    others.subtract(known)
    return others


async def compare_when_settled(
    client: Client, hotel: HotelFile, totals: Totals, others: Figures
) -> list[Line]:
    """Return the lines once all are equal, or as they are after `SETTLE_TIMEOUT_S`."""
    give_up = time.monotonic() + SETTLE_TIMEOUT_S
    expected = figures_of_file(hotel, totals)
    while True:
        shown = await get_figures(client)
        shown.subtract(others)
        lines = compare(hotel, totals, expected, shown)
        if all(line.equal for line in lines) or time.monotonic() >= give_up:
            return lines
        await asyncio.sleep(_POLL_S)


def compare(hotel: HotelFile, totals: Totals, expected: Figures, shown: Figures) -> list[Line]:
    """Compare the totals, then the confirmed bookings and cancellations of each package."""
    lines = [_line(name, (name,), expected, shown) for name in ("confirmed", "cancelled", *_MONEY)]
    for room, _ in totals.confirmed_by_room.most_common():
        package_id = hotel.package_id(Offer(*room))
        names = f"confirmed {package_id}", f"cancelled {package_id}"
        lines.append(_line(f"{room[0]} {room[1]}", names, expected, shown))
    return lines


def _line(title: str, names: tuple[str, ...], expected: Figures, shown: Figures) -> Line:
    show = _money if title in _MONEY else "{:,}".format
    return Line(
        title,
        " / ".join(show(expected[name]) for name in names),
        " / ".join(show(shown[name]) for name in names),
        all(expected[name] == shown[name] for name in names),
    )


def _money(minor: int) -> str:
    units, cents = divmod(abs(minor), 100)
    return f"{'-' if minor < 0 else ''}{units:,}.{cents:02} {CURRENCY}"
