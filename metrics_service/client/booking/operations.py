"""Times the operations on bookings and packages under fixed names; the ids document the call and
are never recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from metrics_service.client.tracked import with_query_tracking

T = TypeVar("T")
Op = Callable[[], Awaitable[T]]


class BookingQueries:
    """Awaits an op() as one operation on bookings, and returns what it returns."""

    @staticmethod
    async def create(op: Op[T]) -> T:
        """Time op as "bookings.create"."""
        return await with_query_tracking(op, model="bookings", operation="create")

    @staticmethod
    async def check_availability(package_id: object, op: Op[T]) -> T:
        """Time op as "bookings.check_availability"."""
        del package_id
        return await with_query_tracking(op, model="bookings", operation="check_availability")

    @staticmethod
    async def get_user_bookings(user_id: object, op: Op[T]) -> T:
        """Time op as "bookings.get_user_bookings"."""
        del user_id
        return await with_query_tracking(op, model="bookings", operation="get_user_bookings")

    @staticmethod
    async def update(booking_id: object, op: Op[T]) -> T:
        """Time op as "bookings.update"."""
        del booking_id
        return await with_query_tracking(op, model="bookings", operation="update")


class PackageQueries:
    """Awaits an op() as one operation on packages, and returns what it returns."""

    @staticmethod
    async def get_details(package_id: object, op: Op[T]) -> T:
        """Time op as "packages.get_details"."""
        del package_id
        return await with_query_tracking(op, model="packages", operation="get_details")

    @staticmethod
    async def check_availability(package_id: object, op: Op[T]) -> T:
        """Time op as "packages.check_availability"."""
        del package_id
        return await with_query_tracking(op, model="packages", operation="check_availability")

    @staticmethod
    async def search(op: Op[T]) -> T:
        """Time op as "packages.search"."""
        return await with_query_tracking(op, model="packages", operation="search")
