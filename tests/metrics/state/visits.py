"""Visits of packages, p0, p1 and so on, of two types, three places and five vendors."""

from __future__ import annotations

from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import SECOND, Fact, Log

STEPS: tuple[Fact.Transition.ValueType, ...] = (
    Fact.TRANSITION_UNSPECIFIED,
    Fact.STARTED,
    Fact.COMPLETED,
    Fact.CONFIRMED,
)


def keys_of(package: str) -> tuple[str, str, str, str]:
    """What an event of a package is counted under, by dimension."""
    number = int(package[1:])
    return package, f"type{number % 2}", f"place{number % 3}", f"vendor{number % 5}"


def view(log: Log, at: int, session: str, package: str) -> event_pb2.Event:
    """A view that describes its package."""
    _, package_type, location, vendor = keys_of(package)
    viewed = event_pb2.PackageViewed(
        package_id=package, package_type=package_type, location=location, vendor_id=vendor
    )
    return event_pb2.Event(
        event_id=log.event_id(), time_us=at, session_id=session, package_viewed=viewed
    )


def visit(log: Log, at: int, session: str, package: str, steps: int) -> list[event_pb2.Event]:
    """The first steps of a visit, a second apart."""
    events = [view(log, at, session, package)]
    for step in range(1, steps):
        fact = log.fact(
            STEPS[step],
            at + step * SECOND,
            session,
            booking=f"{session} {package}",
            package=package,
            amount=100,
            confirm_us=at + step * SECOND if step == 3 else 0,
        )
        booking = fact.booking
        _, booking.package_type, booking.location, booking.vendor_id = keys_of(package)
        events.append(fact)
    return events
