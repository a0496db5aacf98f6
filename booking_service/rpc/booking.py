"""booking.v1.BookingService: translates, calls, translates back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from booking_service.domain.booking import Booking
from booking_service.domain.commands import StartBatch
from booking_service.domain.recount import Reconciliation
from booking_service.errors import all_found, found
from booking_service.mapping import (
    booking_change,
    booking_read,
    booking_reply,
)
from booking_service.mapping.command_request import CommandRequest
from booking_service.reads.bookings import BookingQueries
from booking_service.reads.packages import PackageQueries
from booking_service.reads.reports import ReportQueries
from booking_service.rpc.command_gateway import CommandGateway, session_id
from protos.booking.v1 import booking_pb2, booking_pb2_grpc
from servicekit.errors import ApiError

Context = grpc.aio.ServicerContext[Any, Any]


class BookingService(booking_pb2_grpc.BookingServiceServicer):
    """Bookings, from the hold to the end, and what is reported about them."""

    def __init__(
        self,
        gateway: CommandGateway,
        bookings: BookingQueries,
        packages: PackageQueries,
        history: ReportQueries,
    ) -> None:
        self._gateway = gateway
        self._bookings = bookings
        self._packages = packages
        self._history = history

    async def StartBooking(
        self, request: booking_pb2.StartBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.start_booking(request, session_id())
        started = await self._gateway.carry_out(change, Booking)
        return booking_reply.booking(started, foreseen=change.validate_only)

    async def BatchStartBookings(
        self, request: booking_pb2.BatchStartBookingsRequest, context: Context
    ) -> booking_pb2.BatchStartBookingsResponse:
        batch = booking_change.start_batch(request, session_id())
        starts = self._start_all if request.all_or_nothing else self._start_each
        return booking_reply.started(await starts(batch))

    async def ExtendHold(
        self, request: booking_pb2.ExtendHoldRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.extend_hold(request)
        return booking_reply.booking(await self._gateway.carry_out(change, Booking))

    async def CompleteBooking(
        self, request: booking_pb2.CompleteBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.complete_booking(request)
        return booking_reply.booking(await self._gateway.carry_out(change, Booking))

    async def ConfirmBooking(
        self, request: booking_pb2.ConfirmBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.confirm_booking(request)
        return booking_reply.booking(await self._gateway.carry_out(change, Booking))

    async def AbandonBooking(
        self, request: booking_pb2.AbandonBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.abandon_booking(request)
        return booking_reply.booking(await self._gateway.carry_out(change, Booking))

    async def FailBooking(
        self, request: booking_pb2.FailBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.fail_booking(request)
        return booking_reply.booking(await self._gateway.carry_out(change, Booking))

    async def PreviewCancellation(
        self, request: booking_pb2.PreviewCancellationRequest, context: Context
    ) -> booking_pb2.CancellationPreview:
        command = booking_change.preview_cancellation(request)
        booking_id = command.booking_id
        booking = found(await self._bookings.get(booking_id), "booking", booking_id)
        cancelled, _ = await self._gateway.preview(command, Booking)
        packages = await self._packages.get_many([booking.package_id])
        return booking_reply.cancellation(booking, cancelled, packages[booking.package_id])

    async def CancelBooking(
        self, request: booking_pb2.CancelBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.cancel_booking(request)
        cancelled = await self._gateway.carry_out(change, Booking)
        return booking_reply.booking(cancelled, foreseen=change.validate_only)

    async def PreviewReschedule(
        self, request: booking_pb2.RescheduleBookingRequest, context: Context
    ) -> booking_pb2.ReschedulePreview:
        change = booking_change.reschedule_booking(request)
        return booking_reply.reschedule(*await self._gateway.preview(change.command, Booking))

    async def RescheduleBooking(
        self, request: booking_pb2.RescheduleBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = booking_change.reschedule_booking(request)
        moved = await self._gateway.carry_out(change, Booking)
        return booking_reply.booking(moved, foreseen=change.validate_only)

    async def GetBooking(
        self, request: booking_pb2.GetBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        booking_id = booking_read.get_booking(request)
        return booking_reply.booking(
            found(await self._bookings.get(booking_id), "booking", booking_id)
        )

    async def ListBookings(
        self, request: booking_pb2.ListBookingsRequest, context: Context
    ) -> booking_pb2.ListBookingsResponse:
        listed = booking_read.list_bookings(request)
        page = await self._bookings.list(listed.wanted, after=listed.after, limit=listed.limit)
        return booking_reply.bookings(request, page)

    async def BatchGetBookings(
        self, request: booking_pb2.BatchGetBookingsRequest, context: Context
    ) -> booking_pb2.BatchGetBookingsResponse:
        booking_ids = booking_read.batch_get_bookings(request)
        known = await self._bookings.get_many(booking_ids)
        return booking_reply.booking_batch(all_found(known, "booking", booking_ids))

    async def ListBookingEvents(
        self, request: booking_pb2.ListBookingEventsRequest, context: Context
    ) -> booking_pb2.ListBookingEventsResponse:
        listed = booking_read.list_booking_events(request)
        page = await self._history.list_events(
            listed.booking_id, after=listed.after, limit=listed.limit
        )
        return booking_reply.events(request, found(page, "booking", listed.booking_id))

    async def GetRevenueReport(
        self, request: booking_pb2.GetRevenueReportRequest, context: Context
    ) -> booking_pb2.RevenueReport:
        report = booking_read.revenue_report(request)
        return booking_reply.revenue(
            await self._history.revenue(report.vendor_id, report.start, report.end)
        )

    async def ReconcileInventory(
        self, request: booking_pb2.ReconcileInventoryRequest, context: Context
    ) -> booking_pb2.ReconcileInventoryResponse:
        change = booking_change.reconcile_inventory(request)
        return booking_reply.reconciled(await self._gateway.carry_out(change, Reconciliation))

    async def _start_all(self, batch: CommandRequest[StartBatch]) -> Sequence[Booking]:
        started: tuple[Booking, ...] = await self._gateway.carry_out(batch, tuple)
        return started

    async def _start_each(self, batch: CommandRequest[StartBatch]) -> Sequence[Booking | ApiError]:
        return await self._gateway.carry_out_each(booking_change.each_start(batch), Booking)
