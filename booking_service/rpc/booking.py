"""booking.v1.BookingService: translates, calls, translates back."""

from collections.abc import Sequence
from typing import Any

import grpc

from booking_service.domain.booking import Booking
from booking_service.domain.commands import StartBatch
from booking_service.domain.world import Reconciliation
from booking_service.errors import all_found, found
from booking_service.mapping import answers, catalog, reads, reports, requests
from booking_service.mapping.requests import Change
from booking_service.queries import BookingQueries, PackageQueries
from booking_service.queries_reports import ReportQueries
from booking_service.rpc.changes import Changes, session_id
from protos.booking.v1 import booking_pb2, booking_pb2_grpc
from servicekit.errors import ApiError

Context = grpc.aio.ServicerContext[Any, Any]


class BookingService(booking_pb2_grpc.BookingServiceServicer):
    """Bookings, from the hold to its end."""

    def __init__(
        self,
        changes: Changes,
        bookings: BookingQueries,
        packages: PackageQueries,
        history: ReportQueries,
    ) -> None:
        self._changes = changes
        self._bookings = bookings
        self._packages = packages
        self._history = history

    async def StartBooking(
        self, request: booking_pb2.StartBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.start_booking(request, session_id())
        started = await self._changes.carry_out(change, Booking)
        return answers.booking(started, foreseen=change.validate_only)

    async def BatchStartBookings(
        self, request: booking_pb2.BatchStartBookingsRequest, context: Context
    ) -> booking_pb2.BatchStartBookingsResponse:
        batch = requests.start_batch(request, session_id())
        starts = self._start_all if request.all_or_nothing else self._start_each
        return reports.started(await starts(batch))

    async def ExtendHold(
        self, request: booking_pb2.ExtendHoldRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.extend_hold(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

    async def CompleteBooking(
        self, request: booking_pb2.CompleteBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.complete_booking(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

    async def ConfirmBooking(
        self, request: booking_pb2.ConfirmBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.confirm_booking(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

    async def AbandonBooking(
        self, request: booking_pb2.AbandonBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.abandon_booking(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

    async def FailBooking(
        self, request: booking_pb2.FailBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.fail_booking(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

    async def PreviewCancellation(
        self, request: booking_pb2.PreviewCancellationRequest, context: Context
    ) -> booking_pb2.CancellationPreview:
        command = requests.preview_cancellation(request)
        booking_id = command.booking_id
        booking = found(await self._bookings.get(booking_id), "booking", booking_id)
        cancelled, _ = await self._changes.preview(command, Booking)
        packages = await self._packages.get_many([booking.package_id])
        return reports.cancellation(booking, cancelled, packages[booking.package_id])

    async def CancelBooking(
        self, request: booking_pb2.CancelBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.cancel_booking(request)
        cancelled = await self._changes.carry_out(change, Booking)
        return answers.booking(cancelled, foreseen=change.validate_only)

    async def PreviewReschedule(
        self, request: booking_pb2.RescheduleBookingRequest, context: Context
    ) -> booking_pb2.ReschedulePreview:
        change = requests.reschedule_booking(request)
        return reports.reschedule(*await self._changes.preview(change.command, Booking))

    async def RescheduleBooking(
        self, request: booking_pb2.RescheduleBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.reschedule_booking(request)
        moved = await self._changes.carry_out(change, Booking)
        return answers.booking(moved, foreseen=change.validate_only)

    async def GetBooking(
        self, request: booking_pb2.GetBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        booking_id = reads.get_booking(request)
        return answers.booking(found(await self._bookings.get(booking_id), "booking", booking_id))

    async def ListBookings(
        self, request: booking_pb2.ListBookingsRequest, context: Context
    ) -> booking_pb2.ListBookingsResponse:
        listed = reads.list_bookings(request)
        page = await self._bookings.list(listed.wanted, after=listed.after, limit=listed.limit)
        return answers.bookings(request, page)

    async def BatchGetBookings(
        self, request: booking_pb2.BatchGetBookingsRequest, context: Context
    ) -> booking_pb2.BatchGetBookingsResponse:
        booking_ids = reads.batch_get_bookings(request)
        known = await self._bookings.get_many(booking_ids)
        return answers.booking_batch(all_found(known, "booking", booking_ids))

    async def ListBookingEvents(
        self, request: booking_pb2.ListBookingEventsRequest, context: Context
    ) -> booking_pb2.ListBookingEventsResponse:
        listed = reads.list_booking_events(request)
        page = await self._history.list_events(
            listed.booking_id, after=listed.after, limit=listed.limit
        )
        return reports.events(request, found(page, "booking", listed.booking_id))

    async def GetRevenueReport(
        self, request: booking_pb2.GetRevenueReportRequest, context: Context
    ) -> booking_pb2.RevenueReport:
        report = reads.revenue_report(request)
        return reports.revenue(
            await self._history.revenue(report.vendor_id, report.start, report.end)
        )

    async def ReconcileInventory(
        self, request: booking_pb2.ReconcileInventoryRequest, context: Context
    ) -> booking_pb2.ReconcileInventoryResponse:
        change = catalog.reconcile_inventory(request)
        return reports.reconciled(await self._changes.carry_out(change, Reconciliation))

    async def _start_all(self, batch: Change[StartBatch]) -> Sequence[Booking]:
        started: tuple[Booking, ...] = await self._changes.carry_out(batch, tuple)
        return started

    async def _start_each(self, batch: Change[StartBatch]) -> Sequence[Booking | ApiError]:
        return await self._changes.carry_out_each(requests.each_start(batch), Booking)
