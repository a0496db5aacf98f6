"""Packages with free days, for the victim and for attacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc

CAPACITY: Final = 100_000


@dataclass(frozen=True, slots=True)
class Town:
    """The ids of packages of one vendor."""

    vendor: str
    packages: tuple[str, ...]

    @classmethod
    async def built(
        cls, channel: Any, *, packages: int, days: int, capacity: int = CAPACITY, **fields: Any
    ) -> Town:
        """Make packages that are free from today on, for so many days; `fields` are of each."""
        stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        vendor = await stub.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
        )

        async def one() -> str:
            package = await stub.CreatePackage(
                catalog_pb2.CreatePackageRequest(
                    package=catalog_pb2.Package(
                        vendor_id=vendor.id,
                        title="Room with a view",
                        type="hotel_room",
                        location="Lisbon",
                        time_zone="Europe/Lisbon",
                        base_price=Money(currency_code="EUR", units=80),
                        **fields,
                    )
                )
            )
            await stub.SetCapacity(
                catalog_pb2.SetCapacityRequest(
                    package_id=package.id,
                    ranges=[
                        catalog_pb2.CapacityRange(
                            start_date=in_days(0), end_date=in_days(days), capacity=capacity
                        )
                    ],
                )
            )
            return str(package.id)

        return cls(vendor.id, tuple(await asyncio.gather(*(one() for _ in range(packages)))))


def in_days(days: int) -> Date:
    """The day so many days from today."""
    at = datetime.now(UTC) + timedelta(days)
    return Date(year=at.year, month=at.month, day=at.day)
