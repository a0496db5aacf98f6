"""Replays a plan as live traffic against booking_service, in the order of the plan.

All visits of a day end before its cancellations begin, and these before the next day, so that the
capacity computed for this order suffices. Every request has a fixed id and every step is taken only
from the state that it follows, so that a replay can be stopped at any point and resumed without
losing or duplicating anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from booking_service.demo import messages
from booking_service.demo.calls import Client, RefusalError
from booking_service.demo.hotel import HotelFile, Stay
from booking_service.demo.plan import Day, Visit
from booking_service.demo.seed import Known
from booking_service.demo.steps import Step, refund_left, visit_steps
from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
)

CONCURRENCY: Final = 32
PROVIDER: Final = "replay"


@dataclass(slots=True)
class Progress:
    """The progress of a replay. Rows are those of the file that had something left to do."""

    days: int
    rows: int
    days_done: int = 0
    rows_done: int = 0
    today: date | None = None
    """The day being replayed, in the moved calendar."""
    visits: int = 0
    """Of guests and of generated visitors."""
    cancellations: int = 0
    sold_out_rows: set[int] = field(default_factory=set)
    sold_out_visits: int = 0
    """Generated visitors who were refused as sold out."""


class Replay:
    """One pass over what `known` leaves of the plan.

    `shift` is the result of `seed.put_on_sale`. `speed` is the number of days started per second, 0
    for no limit.
    """

    def __init__(
        self,
        client: Client,
        hotel: HotelFile,
        days: Sequence[Day],
        known: Mapping[UUID, Known],
        *,
        shift: timedelta,
        speed: float = 0.0,
    ) -> None:
        self._client = client
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(client.channel)
        self._bookings = booking_pb2_grpc.BookingServiceStub(client.channel)
        self._payments = payment_pb2_grpc.PaymentServiceStub(client.channel)
        self._hotel = hotel
        self._known = known
        self._shift = shift
        self._speed = speed
        self._report: Callable[[Progress], None] = lambda _: None
        self._places = asyncio.Semaphore(CONCURRENCY)
        work = map(self._left, days)
        self._days = [day for day in work if day.parties or day.cancellations]
        self.progress = Progress(len(self._days), sum(len(day.parties) for day in self._days))

    async def run(self, report: Callable[[Progress], None]) -> Progress:
        """Replay to the end; `report` is called after each row, cancellation and day.

        Raises RefusalError for a refusal that a replay must not meet, and UnreachableError.
        """
        self._report = report
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number, day in enumerate(self._days):
            if self._speed > 0:
                await asyncio.sleep(max(0.0, begin + number / self._speed - loop.time()))
            self.progress.today = day.date + self._shift
            await _together(self._party(party) for party in day.parties)
            await _together(self._cancellation(left) for left in day.cancellations)
            self.progress.days_done += 1
            self._report(self.progress)
        return self.progress

    def _left(self, day: Day) -> _DayLeft:
        parties = []
        for party in day.parties:
            row_known = self._hotel.booking_id(party[-1].stay.row) in self._known
            visits = []
            for visit in party:
                known = self._known.get(self._hotel.booking_id(visit.stay.row, visit.visitor))
                if steps := visit_steps(visit.goal, known, row_known=row_known):
                    visits.append(_VisitLeft(visit, steps))
            if visits:
                parties.append(visits)
        cancellations = []
        for stay in day.cancellations:
            known = self._known.get(self._hotel.booking_id(stay.row))
            due = refund_left(known)
            if due != 0:
                cancellations.append(_CancellationLeft(stay, due))
        return _DayLeft(day.date, parties, cancellations)

    async def _party(self, visits: list[_VisitLeft]) -> None:
        # The guest's booking marks its row as done, so the generated visitors come before.
        await _together(self._visit(left) for left in visits if left.visit.visitor)
        await _together(self._visit(left) for left in visits if not left.visit.visitor)
        self.progress.rows_done += 1
        self._report(self.progress)

    async def _visit(self, left: _VisitLeft) -> None:
        async with self._places:
            self.progress.visits += 1
            await self._steps(*left)

    async def _steps(self, visit: Visit, steps: tuple[Step, ...]) -> None:
        for step in steps:
            try:
                await self._take(step, visit)
            except RefusalError as error:
                match step, error.reason:
                    # Sold out at the start, or when a payment arrives after the hold ran out.
                    case (Step.START, "SOLD_OUT") | (Step.CONFIRM, "HOLD_EXPIRED"):
                        self._sold_out(visit)
                        return
                    # The service was unreachable for too long: confirm or abandon follows.
                    case (Step.COMPLETE, "HOLD_EXPIRED"):
                        continue
                    case (Step.ABANDON, "HOLD_EXPIRED" | "INVALID_TRANSITION"):
                        return
                raise

    def _sold_out(self, visit: Visit) -> None:
        if visit.visitor == 0:
            self.progress.sold_out_rows.add(visit.stay.row)
        else:
            self.progress.sold_out_visits += 1

    async def _take(self, step: Step, visit: Visit) -> None:
        stay, visitor, _ = visit
        booking_id = str(self._hotel.booking_id(stay.row, visitor))
        request_id = self._id(stay, step.name.lower(), visitor)
        session_id = self._id(stay, "session", visitor)
        call = self._client.call
        match step:
            case Step.VIEW:
                view = catalog_pb2.GetPackageRequest(
                    package_id=str(self._hotel.package_id(stay.offer))
                )
                await call(self._catalog.GetPackage, view, session_id=session_id)
            case Step.START:
                start = self._start_request(stay, visitor, booking_id, request_id)
                await call(self._bookings.StartBooking, start, session_id=session_id)
            case Step.COMPLETE:
                complete = booking_pb2.CompleteBookingRequest(
                    booking_id=booking_id, request_id=request_id
                )
                await call(self._bookings.CompleteBooking, complete, session_id=session_id)
            case Step.CONFIRM:
                confirm = booking_pb2.ConfirmBookingRequest(
                    booking_id=booking_id,
                    provider=PROVIDER,
                    payment_id=self._id(stay, "payment"),
                    amount=messages.money(stay.price_minor),
                    request_id=request_id,
                )
                await call(self._bookings.ConfirmBooking, confirm, session_id=session_id)
            case Step.ABANDON:
                abandon = booking_pb2.AbandonBookingRequest(
                    booking_id=booking_id, request_id=request_id
                )
                await call(self._bookings.AbandonBooking, abandon, session_id=session_id)

    def _start_request(
        self, stay: Stay, visitor: int, booking_id: str, request_id: str
    ) -> booking_pb2.StartBookingRequest:
        return booking_pb2.StartBookingRequest(
            package_id=str(self._hotel.package_id(stay.offer)),
            user_id=self._id(stay, "user", visitor),
            start_date=messages.day(stay.arrival + self._shift),
            end_date=messages.day(stay.departure + self._shift),
            party_size=stay.party_size,
            quote=booking_pb2.Quote(
                price=messages.money(stay.price_minor),
                cancellation_policy=(
                    messages.FULL_REFUND if stay.refundable else messages.NO_REFUND
                ),
            ),
            booking_id=booking_id,
            request_id=request_id,
        )

    async def _cancellation(self, left: _CancellationLeft) -> None:
        stay, due = left
        if stay.row in self.progress.sold_out_rows:
            return
        booking_id = str(self._hotel.booking_id(stay.row))
        async with self._places:
            if due is None:
                request = booking_pb2.CancelBookingRequest(
                    booking_id=booking_id, request_id=self._id(stay, "cancel")
                )
                booking = await self._client.call(self._bookings.CancelBooking, request)
                due = messages.cents(booking.refund)
            if due > 0:
                refund = payment_pb2.RecordPaymentRequest(
                    booking_id=booking_id,
                    provider=PROVIDER,
                    payment_id=self._id(stay, "payment"),
                    kind=payment_pb2.RecordPaymentRequest.REFUNDED,
                    amount=messages.money(due),
                    refund_id=self._id(stay, "refund"),
                    request_id=self._id(stay, "record-refund"),
                )
                await self._client.call(self._payments.RecordPayment, refund)
        self.progress.cancellations += 1
        self._report(self.progress)

    def _id(self, stay: Stay, what: str, visitor: int = 0) -> str:
        return str(self._hotel.step_id(stay.row, what, visitor))


class _VisitLeft(NamedTuple):
    visit: Visit
    steps: tuple[Step, ...]


class _CancellationLeft(NamedTuple):
    stay: Stay
    due_minor: int | None
    """What remains to be refunded; None before the booking is cancelled."""


class _DayLeft(NamedTuple):
    date: date
    parties: list[list[_VisitLeft]]
    cancellations: list[_CancellationLeft]


async def _together(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all; the first failure cancels the others and is raised unwrapped."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
