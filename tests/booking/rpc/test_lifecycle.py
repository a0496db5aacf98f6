"""BookingService over a real channel and a real database: every transition and every refusal."""

from __future__ import annotations

from datetime import UTC, timedelta
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.running_service import (
    FIRST_DAY,
    NOON,
    RunningService,
    after,
    confirm_of,
    euro,
    refusal_of,
    running,
    start_of,
)

State = booking_pb2.Booking.State
Abandon = booking_pb2.AbandonBookingRequest
Cancel = booking_pb2.CancelBookingRequest
Complete = booking_pb2.CompleteBookingRequest
Listing = booking_pb2.ListBookingsRequest
Tier = catalog_pb2.CancellationPolicy.Tier
FULL_REFUND = catalog_pb2.CancellationPolicy(
    tiers=[Tier(before=Duration(), refund_basis_points=10_000)]
)
QUOTED = catalog_pb2.Package.QUOTED
# The clock does not move, yet every change is a microsecond later than what it changes.
MOMENT = timedelta(milliseconds=1)
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def test_a_hold_carries_what_it_was_started_with(booking: RunningService) -> None:
    package = await booking.package(cancellation_policy=FULL_REFUND)
    booking_id = str(uuid4())
    request = start_of(
        package.id,
        user_id="ana",
        end_date=after(3),
        quantity=2,
        party_size=4,
        booking_id=booking_id,
    )
    held = await booking.booking.StartBooking(request, metadata=[("x-session-id", "visit-1")])
    assert held.id == booking_id
    assert (held.package_id, held.vendor_id) == (package.id, package.vendor_id)
    assert (held.user_id, held.session_id) == ("ana", "visit-1")
    assert held.state == State.HELD
    assert (held.start_date, held.end_date) == (after(0), after(3))
    assert (held.quantity, held.party_size) == (2, 4)
    assert held.price == euro(8050 * 2 * 3)
    assert held.cancellation_policy == FULL_REFUND
    created = held.create_time.ToDatetime(UTC)
    assert NOON <= created < NOON + MOMENT
    assert held.hold_expire_time.ToDatetime(UTC) == created + timedelta(minutes=15)
    for unset in ("complete_time", "confirm_time", "end_time", "refund", "refunded"):
        assert not held.HasField(unset)
    got = await booking.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=booking_id))
    assert got == held


async def test_a_booking_goes_from_hold_to_confirmed(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=2))
    pending = await booking.booking.CompleteBooking(Complete(booking_id=held.id))
    assert pending.state == State.PENDING_PAYMENT
    assert pending.complete_time.ToDatetime(UTC) == NOON + timedelta(minutes=2)
    assert pending.HasField("hold_expire_time")
    booking.clock.advance(timedelta(minutes=1))
    confirmed = await booking.booking.ConfirmBooking(confirm_of(pending))
    assert confirmed.state == State.CONFIRMED
    assert confirmed.confirm_time.ToDatetime(UTC) == NOON + timedelta(minutes=3)
    assert not confirmed.HasField("hold_expire_time")
    assert not confirmed.HasField("end_time")
    assert len({held.etag, pending.etag, confirmed.etag}) == 3


async def test_a_cancellation_gives_seats_and_money_back(booking: RunningService) -> None:
    package = await booking.package(capacity=1, cancellation_policy=FULL_REFUND)
    confirmed = await booking.confirmed(package.id)
    cancelled = await booking.booking.CancelBooking(Cancel(booking_id=confirmed.id, reason="rain"))
    assert cancelled.state == State.CANCELLED
    assert cancelled.end_reason == "rain"
    assert cancelled.refund == confirmed.price
    assert cancelled.refunded == euro(0)
    assert cancelled.HasField("end_time")
    assert (await booking.held(package.id, user_id="ben")).state == State.HELD


async def test_a_hold_is_confirmed_without_its_form(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    confirmed = await booking.booking.ConfirmBooking(confirm_of(held))
    assert confirmed.state == State.CONFIRMED
    assert confirmed.complete_time == confirmed.confirm_time
    again = await booking.booking.CompleteBooking(Complete(booking_id=held.id))
    assert again == confirmed


async def test_a_cancelled_hold_frees_its_seats(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    for waiting in (booking.held, booking.completed):
        hold = await waiting(package.id)
        ended = await booking.booking.CancelBooking(Cancel(booking_id=hold.id, reason="rain"))
        assert (ended.state, ended.end_reason) == (State.ABANDONED, "CANCELLED")
        assert not ended.HasField("refund")
        assert await booking.booking.CancelBooking(Cancel(booking_id=hold.id)) == ended


async def test_an_abandoned_hold_frees_its_seats(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    ended = await booking.booking.AbandonBooking(Abandon(booking_id=held.id, reason="dear"))
    assert (ended.state, ended.end_reason) == (State.ABANDONED, "dear")
    assert ended.HasField("hold_expire_time")
    assert (await booking.held(package.id)).state == State.HELD


async def test_a_repeated_transition_returns_the_booking_unchanged(booking: RunningService) -> None:
    package = await booking.package(cancellation_policy=FULL_REFUND)
    pending = await booking.completed(package.id)
    again = await booking.booking.CompleteBooking(Complete(booking_id=pending.id))
    assert again == pending
    confirmation = confirm_of(pending)
    confirmed = await booking.booking.ConfirmBooking(confirmation)
    assert await booking.booking.ConfirmBooking(confirmation) == confirmed
    cancelled = await booking.booking.CancelBooking(Cancel(booking_id=pending.id))
    assert await booking.booking.CancelBooking(Cancel(booking_id=pending.id)) == cancelled
    abandoned = await booking.booking.AbandonBooking(
        Abandon(booking_id=(await booking.held(package.id)).id)
    )
    assert await booking.booking.AbandonBooking(Abandon(booking_id=abandoned.id)) == abandoned


async def test_another_transition_is_refused_with_the_state(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    moving = booking_pb2.RescheduleBookingRequest(booking_id=held.id, start_date=after(3))
    confirmed = await booking.confirmed(package.id)
    abandoned = await booking.booking.AbandonBooking(
        Abandon(booking_id=(await booking.held(package.id)).id)
    )
    rpc = booking.booking
    for call, booking_id, state in (
        (rpc.RescheduleBooking(moving), held.id, "HELD"),
        (rpc.AbandonBooking(Abandon(booking_id=confirmed.id)), confirmed.id, "CONFIRMED"),
        (rpc.CompleteBooking(Complete(booking_id=abandoned.id)), abandoned.id, "ABANDONED"),
        (rpc.CancelBooking(Cancel(booking_id=abandoned.id)), abandoned.id, "ABANDONED"),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (PRECONDITION, "INVALID_TRANSITION")
        assert refusal.metadata["state"] == state
        assert refusal.resource == ("booking", booking_id)
        violation = refusal.precondition
        assert (violation.type, violation.subject) == ("INVALID_TRANSITION", booking_id)


async def test_sold_out_names_the_days_and_what_is_free(booking: RunningService) -> None:
    package = await booking.package(capacity=3, days=3)
    await booking.held(package.id, start_date=after(1), end_date=after(2), quantity=2)
    refusal = await refusal_of(booking.held(package.id, end_date=after(4), quantity=2))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "SOLD_OUT")
    second, fourth = FIRST_DAY + timedelta(days=1), FIRST_DAY + timedelta(days=3)
    assert refusal.metadata["days"] == f"{second}=1,{fourth}=0"
    assert refusal.precondition.type == "SOLD_OUT"


async def test_sold_out_for_a_year_fits_into_a_trailer(booking: RunningService) -> None:
    package = await booking.package(capacity=1, days=1)
    refusal = await refusal_of(booking.held(package.id, end_date=after(366)))
    assert refusal.reason == "SOLD_OUT"
    listed = refusal.metadata["days"].split(",")
    assert len(listed) + int(refusal.metadata["days_omitted"]) == 365


async def test_a_hold_that_ran_out_of_time_is_refused_as_expired(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=15) + MOMENT)
    refusal = await refusal_of(booking.booking.CompleteBooking(Complete(booking_id=held.id)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "HOLD_EXPIRED")
    assert refusal.metadata["state"] == "EXPIRED"
    ended = await booking.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=held.id))
    assert (ended.state, ended.end_reason) == (State.EXPIRED, "HOLD_EXPIRED")


async def test_a_party_must_fit_into_its_units(booking: RunningService) -> None:
    package = await booking.package(max_party_size=5, max_party_per_unit=2)
    for quantity, party_size, most in ((1, 3, "2"), (2, 5, "4"), (3, 6, "5")):
        refusal = await refusal_of(
            booking.held(package.id, quantity=quantity, party_size=party_size)
        )
        assert (refusal.code, refusal.reason) == (PRECONDITION, "PARTY_SIZE")
        assert refusal.metadata == {"min": "1", "max": most}
        held = await booking.held(package.id, quantity=quantity, party_size=int(most))
        assert (held.quantity, held.party_size) == (quantity, int(most))
    search = catalog_pb2.SearchPackagesRequest(start_date=after(5), party_size=3, quantity=1)
    assert list((await booking.catalog.SearchPackages(search)).packages) == []
    search.quantity = 2
    assert list((await booking.catalog.SearchPackages(search)).packages) == [package]
    # Without dates no number of units is asked for.
    anywhere = catalog_pb2.SearchPackagesRequest(party_size=5)
    assert list((await booking.catalog.SearchPackages(anywhere)).packages) == [package]


async def test_what_does_not_fit_the_package_is_refused(booking: RunningService) -> None:
    package = await booking.package(min_party_size=2, max_party_size=3)
    quoted = await booking.package(pricing=QUOTED)
    dollars = booking_pb2.Quote(price=Money(currency_code="USD", units=161))
    dear = booking_pb2.Quote(price=euro(16_101))
    for call, reason, metadata in (
        (booking.held(package.id), "PARTY_SIZE", {"min": "2", "max": "3"}),
        (booking.held(package.id, party_size=4), "PARTY_SIZE", {}),
        (
            booking.held(package.id, party_size=2, quote=dear),
            "PRICE_CHANGED",
            {"price_minor": "16100", "currency": "EUR"},
        ),
        (
            booking.held(package.id, party_size=2, quote=dollars),
            "CURRENCY_MISMATCH",
            {"currency": "EUR"},
        ),
        (booking.held(quoted.id), "QUOTE_REQUIRED", {}),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (PRECONDITION, reason)
        assert refusal.metadata.items() >= metadata.items()


async def test_a_quote_sets_price_and_policy(booking: RunningService) -> None:
    package = await booking.package(pricing=QUOTED)
    quote = booking_pb2.Quote(price=euro(12_345), cancellation_policy=FULL_REFUND)
    held = await booking.held(package.id, quote=quote)
    assert held.price == euro(12_345)
    assert held.cancellation_policy == FULL_REFUND


async def test_a_payment_of_another_amount_is_refused(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    for amount, reason in (
        (euro(16_099), "AMOUNT_MISMATCH"),
        (Money(currency_code="USD", units=161), "CURRENCY_MISMATCH"),
    ):
        refusal = await refusal_of(
            booking.booking.ConfirmBooking(confirm_of(pending, amount=amount))
        )
        assert (refusal.code, refusal.reason) == (PRECONDITION, reason)


async def test_a_stay_that_is_over_cannot_be_cancelled(booking: RunningService) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    booking.clock.time = NOON + timedelta(days=365)
    refusal = await refusal_of(booking.booking.CancelBooking(Cancel(booking_id=confirmed.id)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "NOT_CANCELLABLE")


async def test_a_second_hold_names_the_first(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_ONE_HOLD_PER_USER_AND_PACKAGE="true") as booking:
        package = await booking.package()
        first = await booking.held(package.id)
        refusal = await refusal_of(booking.held(package.id))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "ALREADY_HELD",
        )
        assert refusal.resource == ("booking", first.id)
        assert refusal.metadata["booking_id"] == first.id
        assert (await booking.held(package.id, user_id="ben")).state == State.HELD


async def test_a_user_holds_as_many_as_the_setting_says(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_HOLDS_PER_USER_MAX="2") as booking:
        package = await booking.package()
        await booking.held(package.id)
        await booking.held(package.id)
        refusal = await refusal_of(booking.held(package.id))
        assert (refusal.code, refusal.reason) == (PRECONDITION, "HOLD_LIMIT")
        assert refusal.metadata["limit"] == "2"


async def test_a_booking_id_is_unique_for_ever(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    await booking.booking.AbandonBooking(Abandon(booking_id=held.id))
    refusal = await refusal_of(booking.held(package.id, booking_id=held.id))
    assert refusal.reason == "ALREADY_EXISTS"
    assert refusal.resource == ("booking", held.id)


async def test_a_list_holds_each_booking_once_newest_first(booking: RunningService) -> None:
    """25 with one create_time, in pages of 10, while others are made."""
    package = await booking.package(capacity=100)
    made = {(await booking.held(package.id)).id for _ in range(25)}
    booking.clock.advance(timedelta(seconds=1))
    newest = await booking.held(package.id)
    found: list[str] = []
    request = Listing(user_id="ana", page_size=10)
    while True:
        answer = await booking.booking.ListBookings(request)
        found += [each.id for each in answer.bookings]
        if not answer.next_page_token:
            break
        assert len(answer.bookings) == 10
        request.page_token = answer.next_page_token
        await booking.held(package.id)
    assert found[0] == newest.id
    assert len(found) == 26
    assert set(found) == made | {newest.id}


async def test_a_list_is_filtered_by_every_field(booking: RunningService) -> None:
    package, other = await booking.package(), await booking.package()
    early = await booking.held(package.id, end_date=after(1))
    late = await booking.held(package.id, start_date=after(4), end_date=after(6))
    bens = await booking.confirmed(package.id, user_id="ben", end_date=after(1))
    elsewhere = await booking.held(other.id, end_date=after(1))

    async def listed(**fields: object) -> set[str]:
        answer = await booking.booking.ListBookings(Listing(**fields))  # type: ignore[arg-type] # by name
        return {each.id for each in answer.bookings}

    everything = {early.id, late.id, bens.id, elsewhere.id}
    assert await listed() == everything
    assert await listed(user_id="ana") == everything - {bens.id}
    assert await listed(package_id=package.id) == everything - {elsewhere.id}
    assert await listed(user_id="ben", package_id=package.id) == {bens.id}
    assert await listed(states=[State.CONFIRMED]) == {bens.id}
    assert await listed(states=[State.CONFIRMED, State.HELD]) == everything
    assert await listed(start_date=after(1)) == {late.id}
    assert await listed(end_date=after(4)) == everything - {late.id}
    assert await listed(start_date=after(0), end_date=after(1), user_id="ana") == {
        early.id,
        elsewhere.id,
    }
    assert await listed(start_date=after(5), end_date=after(9)) == {late.id}
    assert await listed(start_date=after(6)) == set()


async def test_a_list_token_belongs_to_its_filter(booking: RunningService) -> None:
    package = await booking.package()
    for _ in range(2):
        await booking.held(package.id)
    token = (
        await booking.booking.ListBookings(Listing(user_id="ana", page_size=1))
    ).next_page_token
    refusal = await refusal_of(
        booking.booking.ListBookings(Listing(user_id="ben", page_token=token))
    )
    assert refusal.reason == "PAGE_TOKEN_INVALID"
    search = catalog_pb2.SearchPackagesRequest(page_token=token)
    refusal = await refusal_of(booking.catalog.SearchPackages(search))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
