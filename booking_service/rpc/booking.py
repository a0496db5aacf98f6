"""booking.v1.BookingService: translates, calls, translates back."""

from typing import Any

import grpc

from booking_service.domain.booking import Booking
from booking_service.errors import found
from booking_service.mapping import answers, reads, requests
from booking_service.queries import BookingQueries
from booking_service.rpc.changes import Changes, session_id
from protos.booking.v1 import booking_pb2, booking_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class BookingService(booking_pb2_grpc.BookingServiceServicer):
    """Bookings, from the hold to its end."""

    def __init__(self, changes: Changes, bookings: BookingQueries) -> None:
        self._changes = changes
        self._bookings = bookings

    async def StartBooking(
        self, request: booking_pb2.StartBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.start_booking(request, session_id())
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

    async def CancelBooking(
        self, request: booking_pb2.CancelBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        change = requests.cancel_booking(request)
        return answers.booking(await self._changes.carry_out(change, Booking))

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
