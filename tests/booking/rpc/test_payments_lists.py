"""ListPayments and ListFailedPayments: complete, in order, each row once."""

from __future__ import annotations

from datetime import UTC, timedelta
from uuid import UUID

import asyncpg
import grpc

from protos.booking.v1 import payment_pb2
from tests.booking.rpc.payment_calls import Kind, State, event_of, failed, payments_of
from tests.booking.running_service import NOON, RunningService, refusal_of

List = payment_pb2.ListPaymentsRequest
ListFailed = payment_pb2.ListFailedPaymentsRequest

ADD = """
INSERT INTO payments (
    id, booking_id, provider, payment_id, state, amount_minor, currency, refunded_minor,
    failure_code, version, create_time, update_time, next_retry_time
)
SELECT
    gen_random_uuid(), $1, 'stripe', $2 || n, 'FAILED', 100, 'EUR', 0, '', 1, $3, $3, $4
FROM generate_series(1, $5) AS n
"""


async def add_failed(dsn: str, booking_id: str, name: str, rows: int, minutes: int = 0) -> None:
    """Failed payments of one instant, to be tried again at another."""
    connection = await asyncpg.connect(dsn)
    try:
        time = NOON + timedelta(minutes=minutes)
        await connection.execute(ADD, UUID(booking_id), name, NOON, time, rows)
    finally:
        await connection.close()


async def test_the_payments_of_a_booking_are_listed_oldest_first(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    await booking.payment.RecordPayment(event_of(pending, Kind.FAILED, "first"))
    booking.clock.advance(timedelta(seconds=1))
    await booking.payment.RecordPayment(event_of(pending, Kind.AUTHORISED, "second"))
    booking.clock.advance(timedelta(seconds=1))
    await booking.payment.RecordPayment(event_of(pending, Kind.CAPTURED, "second"))
    await failed(booking, package.id, "of another booking")
    first, second = await payments_of(booking, pending.id)
    assert (first.payment_id, first.state) == ("first", State.FAILED)
    assert (second.payment_id, second.state) == ("second", State.CAPTURED)
    assert first.booking_id == second.booking_id == pending.id
    assert first.HasField("next_retry_time")
    assert not second.HasField("next_retry_time")


async def test_a_booking_without_payments_has_an_empty_list(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    assert await payments_of(booking, held.id) == []


async def test_payments_of_one_instant_are_each_listed_once(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    await add_failed(booking_dsn, held.id, "a", 25)
    seen: list[str] = []
    token = ""
    for page in range(3):
        answer = await booking.payment.ListPayments(
            List(booking_id=held.id, page_size=10, page_token=token)
        )
        seen += [payment.payment_id for payment in answer.payments]
        token = answer.next_page_token
        assert bool(token) == (page < 2)
    assert sorted(seen) == sorted(f"a{n}" for n in range(1, 26))


async def test_failed_payments_are_listed_by_the_time_of_their_next_retry(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    for name, minutes in (("late", 9), ("soon", 1), ("next", 5)):
        await add_failed(booking_dsn, held.id, name, 3, minutes)
    seen: list[payment_pb2.Payment] = []
    token = ""
    while True:
        answer = await booking.payment.ListFailedPayments(ListFailed(page_size=2, page_token=token))
        seen += answer.payments
        # What is added behind the reader is not seen, and hides nothing.
        await add_failed(booking_dsn, held.id, f"added{len(seen)}-", 1, -5)
        token = answer.next_page_token
        if not token:
            break
    assert [each.payment_id[:-1] for each in seen] == ["soon"] * 3 + ["next"] * 3 + ["late"] * 3
    assert len({each.id for each in seen}) == 9
    times = [each.next_retry_time.ToDatetime(UTC) for each in seen]
    assert times == sorted(times)


async def test_only_payments_to_be_tried_again_are_listed_as_failed(
    booking: RunningService,
) -> None:
    package = await booking.package()
    first = await failed(booking, package.id, "open")
    paid = await booking.completed(package.id)
    await booking.payment.RecordPayment(event_of(paid, Kind.FAILED, "cured"))
    await booking.payment.RecordPayment(event_of(paid, Kind.CAPTURED, "cured"))
    answer = await booking.payment.ListFailedPayments(ListFailed())
    assert list(answer.payments) == [first]


async def test_a_token_of_another_list_is_refused(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    held, other = await booking.held(package.id), await booking.held(package.id)
    await add_failed(booking_dsn, held.id, "a", 3)
    answer = await booking.payment.ListPayments(List(booking_id=held.id, page_size=2))
    token = answer.next_page_token
    for call in (
        booking.payment.ListPayments(List(booking_id=other.id, page_token=token)),
        booking.payment.ListFailedPayments(ListFailed(page_token=token)),
        booking.payment.ListPayments(List(booking_id=held.id, page_token=token[:-2])),
    ):
        refusal = await refusal_of(call)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert (refusal.reason, refusal.fields) == ("PAGE_TOKEN_INVALID", {"page_token"})


async def test_a_page_is_fifty_long_unless_asked_and_at_most_two_hundred(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    await add_failed(booking_dsn, held.id, "a", 201)
    for size, length in ((0, 50), (7, 7), (200, 200), (2**31 - 1, 200)):
        answer = await booking.payment.ListPayments(List(booking_id=held.id, page_size=size))
        assert len(answer.payments) == length
        failed_ones = await booking.payment.ListFailedPayments(ListFailed(page_size=size))
        assert len(failed_ones.payments) == length
