"""EraseUser over a real channel and a real database: nothing of the user is left, and what is owed
or booked stays whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from booking_service.group_commit import erasure
from booking_service.storage.database import Database
from protos.booking.v1 import booking_pb2, payment_pb2, profile_pb2, review_pb2
from protos.tracking.v1 import event_pb2
from servicekit import binaries
from tests.booking.delivery.outbox_lane import leading, seal_all
from tests.booking.rpc.payment_calls import Kind, booking_of, event_of, payments_of
from tests.booking.running_service import (
    RunningService,
    after,
    confirm_of,
    euro,
    refusal_of,
    start_of,
)
from tests.pair.canaries import Canaries

PLANTED = {
    "user_profiles": {"user_id", "display_name", "email", "locale"},
    "bookings": {"user_id", "session_id", "end_reason"},
    "booking_events": {"reason", "fact"},
    "payments": {"failure_code"},
    "payment_events": {"fact"},
    "early_payment_events": {"failure_code"},
    "refunds": {"reason"},
    "reviews": {"user_id", "body"},
    "idempotency_keys": {"answer"},
    "outbox": {"events"},
    "segment": {"batch"},
}
"""Every column that can hold an id, a name or a text of a user."""

# What an erasure changes beside the columns above: hashes and sizes of batches, and its own table.
CHANGED = {
    "segment": {"batch_hash", "former_hashes"},
    "relay": {"kept_bytes", "unacked_bytes"},
}
ITS_OWN = {"erasures"}


async def columns_with(dsn: str, needle: str) -> dict[str, set[str]]:
    """The columns of all tables in which a text is found, in any type."""
    found: dict[str, set[str]] = {}
    for table, rows in (await contents(dsn)).items():
        for row in rows:
            for column, value in row.items():
                text = value if isinstance(value, bytes) else str(value).encode()
                if needle.encode() in text:
                    found.setdefault(table, set()).add(column)
    return found


async def contents(dsn: str) -> dict[str, list[dict[str, Any]]]:
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        )
        return {
            name: sorted(
                (dict(row) for row in await connection.fetch(f'SELECT * FROM "{name}"')), key=str
            )
            for (name,) in names
        }
    finally:
        await connection.close()


async def dump(dsn: str) -> bytes:
    """The whole database as pg_dump writes it, with bytes in hex."""
    command = (str(binaries.program("pg_dump")), "--inserts", dsn)
    run = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    written, _ = await run.communicate()
    assert run.returncode == 0
    return written


def without(rows: Iterable[dict[str, Any]], columns: set[str]) -> list[str]:
    return sorted(
        str({name: value for name, value in row.items() if name not in columns}) for row in rows
    )


async def erased(service: RunningService, user_id: str) -> profile_pb2.EraseUserResponse:
    answer = await service.profile.EraseUser(profile_pb2.EraseUserRequest(user_id=user_id))
    while not answer.done:
        answer = await service.profile.EraseUser(profile_pb2.EraseUserRequest(user_id=user_id))
    return answer


class Guest:
    """A user with a text of its own in whatever takes one."""

    def __init__(self) -> None:
        self.canaries = Canaries()
        self.id = self.canaries.text("user")

    def text(self, of: str) -> str:
        return f"Grace said {self.canaries.text(of)}"

    async def stays(self, service: RunningService, dsn: str) -> list[booking_pb2.Booking]:
        """One booking of each kind, with its payments, refunds, review and profile."""
        package = await service.package(capacity=20)
        profile = profile_pb2.UserProfile(
            user_id=self.id,
            display_name=self.text("name"),
            email=f"{self.canaries.text('mail')}@example.org",
        )
        await service.profile.UpdateUserProfile(
            profile_pb2.UpdateUserProfileRequest(profile=profile, request_id=str(uuid4()))
        )
        stays = [
            await self._stayed(service, package.id),
            await self._refunded(service, package.id),
            await self._cancelled(service, package.id),
            await self._abandoned(service, package.id),
            await self._completed(service, package.id),
        ]
        failure = self.text("code")[-60:]
        failed = event_of(stays[-1], Kind.FAILED, f"pay-{uuid4()}", failure_code=failure)
        await service.payment.RecordPayment(failed)
        connection = await asyncpg.connect(dsn)
        try:
            # What no RPC takes as it is, or only in a race.
            await connection.execute(
                "UPDATE user_profiles SET locale = $1 WHERE user_id = $2",
                *(self.canaries.text("locale"), self.id),
            )
            await connection.execute(
                "INSERT INTO early_payment_events VALUES"
                " ($1, 'stripe', 'pay-e', 'FAILED', '', 1, 'EUR', $2, 'psp', $3, 'INTERNAL')",
                *(stays[-1].id, self.text("early"), service.clock.time),
            )
        finally:
            await connection.close()
        return stays

    async def _started(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        request = start_of(package_id, user_id=self.id, request_id=str(uuid4()))
        session = [("x-session-id", self.canaries.text("session"))]
        return await service.booking.StartBooking(request, metadata=session)

    async def _completed(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        held = await self._started(service, package_id)
        request = booking_pb2.CompleteBookingRequest(booking_id=held.id)
        return await service.booking.CompleteBooking(request)

    async def _confirmed(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        pending = await self._completed(service, package_id)
        return await service.booking.ConfirmBooking(confirm_of(pending))

    async def _stayed(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        stayed = await self._confirmed(service, package_id)
        review: dict[str, Any] = {
            "rating": 4,
            "body": self.text("review"),
            "request_id": str(uuid4()),
        }
        await service.review.CreateReview(
            review_pb2.CreateReviewRequest(booking_id=stayed.id, **review)
        )
        return stayed

    async def _refunded(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        refunded = await self._confirmed(service, package_id)
        [payment] = await payments_of(service, refunded.id)
        refund = {"reason": self.text("refund"), "request_id": str(uuid4())}
        await service.payment.RefundPayment(
            payment_pb2.RefundPaymentRequest(id=payment.id, amount=euro(100), **refund)
        )
        return refunded

    async def _cancelled(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        confirmed = await self._confirmed(service, package_id)
        reason: dict[str, Any] = {"reason": self.text("cancel"), "request_id": str(uuid4())}
        return await service.booking.CancelBooking(
            booking_pb2.CancelBookingRequest(booking_id=confirmed.id, **reason)
        )

    async def _abandoned(self, service: RunningService, package_id: str) -> booking_pb2.Booking:
        held = await self._started(service, package_id)
        return await service.booking.AbandonBooking(
            booking_pb2.AbandonBookingRequest(booking_id=held.id, reason=self.text("abandon"))
        )


@pytest.mark.processes
async def test_nothing_of_a_user_is_left_and_everything_else_is_as_it_was(
    booking: RunningService, booking_dsn: str
) -> None:
    guest, other = Guest(), Guest()
    async with leading(Database(booking_dsn, clock=booking.clock)) as segments:
        stays = await guest.stays(booking, booking_dsn)
        await seal_all(segments)
        await other.stays(booking, booking_dsn)
        held = await booking.held(
            (stays[0]).package_id, user_id=guest.id, start_date=after(3), end_date=after(4)
        )
    before = await contents(booking_dsn)
    assert await columns_with(booking_dsn, guest.canaries.mark) == PLANTED
    needles = (guest.canaries.mark.encode(), guest.canaries.mark.encode().hex().encode())
    written = await dump(booking_dsn)
    assert all(needle in written for needle in needles), "the search finds what is there"

    answer = await erased(booking, guest.id)
    assert answer.bookings == len(stays) + 1
    written = await dump(booking_dsn)
    assert not any(needle in written for needle in needles)
    assert other.canaries.mark.encode() in written
    now = await contents(booking_dsn)
    for table in before.keys() - ITS_OWN - {"user_profiles"}:
        ignored = PLANTED.get(table, set()) | CHANGED.get(table, set())
        assert without(now[table], ignored) == without(before[table], ignored), table
    for table, columns in PLANTED.items():
        of_other = [row for row in before[table] if other.canaries.mark in str(row)]
        assert columns & {"batch", "events"} or all(row in now[table] for row in of_other), table
    # One id took the place of the user's everywhere, and only the erasure knows it beside them.
    [audit] = now["erasures"]
    assert (audit["user_id"], audit["part"], audit["bookings"]) == (None, "done", len(stays) + 1)
    assert str(audit["id"]) == answer.erasure_id
    pseudonym = audit["pseudonym"]
    assert (await columns_with(booking_dsn, pseudonym)).keys() == {
        *("bookings", "booking_events", "payment_events", "reviews", "idempotency_keys"),
        *("outbox", "segment", "erasures"),
    }
    assert {row["user_id"] for row in now["bookings"]} == {other.id, pseudonym}

    # What goes on goes on by the booking's id.
    await booking.booking.CompleteBooking(booking_pb2.CompleteBookingRequest(booking_id=held.id))
    going_on = await booking_of(booking, held.id)
    confirmed = await booking.booking.ConfirmBooking(confirm_of(going_on))
    assert confirmed.user_id == pseudonym
    refund = payment_pb2.RecordPaymentRequest(
        booking_id=stays[1].id,
        provider="stripe",
        payment_id=next(
            row["payment_id"] for row in now["payments"] if str(row["booking_id"]) == stays[1].id
        ),
        kind=Kind.REFUNDED,
        refund_id="re-1",
        amount=euro(100),
    )
    await booking.payment.RecordPayment(refund)
    assert await columns_with(booking_dsn, guest.canaries.mark) == {}


async def test_a_repeat_has_no_effect_and_a_user_of_the_same_id_begins_anew(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    request = start_of(package.id, user_id="ana", request_id=str(uuid4()))
    first = await booking.booking.StartBooking(request)
    profile = profile_pb2.UserProfile(user_id="ana", display_name="Ana")
    change = profile_pb2.UpdateUserProfileRequest(profile=profile, request_id=str(uuid4()))
    await booking.profile.UpdateUserProfile(change)
    done = await erased(booking, "ana")
    again = await erased(booking, "ana")
    assert (done.bookings, again.bookings) == (1, 0)
    nobody = await erased(booking, "never seen")
    assert nobody.done
    # First answers stay first answers, without the user.
    repeated = await booking.booking.StartBooking(request)
    assert repeated.id == first.id
    assert repeated.user_id.startswith("erased-")
    assert (await booking.profile.UpdateUserProfile(change)).display_name == ""
    listed = await booking.booking.ListBookings(booking_pb2.ListBookingsRequest(user_id="ana"))
    assert list(listed.bookings) == []
    refusal = await refusal_of(
        booking.profile.GetUserProfile(profile_pb2.GetUserProfileRequest(user_id="ana"))
    )
    assert refusal.reason == "NOT_FOUND"
    new = await booking.held(package.id, user_id="ana", start_date=after(4), end_date=after(5))
    assert new.user_id == "ana"
    connection = await asyncpg.connect(booking_dsn)
    try:
        facts = b"".join(r[0] for r in await connection.fetch("SELECT events FROM outbox"))
    finally:
        await connection.close()
    users = [event.booking.user_id for event in event_pb2.EventList.FromString(facts).events]
    assert users == [repeated.user_id, "ana"]


async def test_the_sweeper_goes_on_where_the_caller_has_gone(
    booking: RunningService, booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "MAX_BOOKINGS", 2)
    package = await booking.package(capacity=20)
    for number in range(5):
        span = {"start_date": after(number), "end_date": after(number + 1)}
        await booking.held(package.id, user_id="ana", **span)
    monkeypatch.setattr("booking_service.rpc.profile.ERASING_S", 0.0)
    request = profile_pb2.EraseUserRequest(user_id="ana")
    begun = await booking.profile.EraseUser(request)
    assert (begun.done, begun.bookings) == (False, 2)
    further = await booking.profile.EraseUser(request)
    assert (further.erasure_id, further.bookings) == (begun.erasure_id, 4)
    booking.clock.advance(timedelta(seconds=1))
    await booking.server.sweeper.sweep()
    [row] = (await contents(booking_dsn))["erasures"]
    assert (row["part"], row["user_id"], row["bookings"]) == ("done", None, 5)
    assert row["end_time"] == booking.clock.time
