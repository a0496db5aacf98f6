"""Sends what happens in RPCs to the metrics: views, refusals, and counts.

It never waits, and counts only RPCs of the booking contract.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from google.protobuf.descriptor import ServiceDescriptor

from booking_service.domain.package import Package
from metrics_service.client.host import Emitter
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.tracking.v1.event_pb2 import PackageViewed, RpcRefused
from servicekit.context import current_call
from servicekit.rpc_end import RpcEnd

SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
    booking_pb2.DESCRIPTOR.services_by_name["BookingService"],
    payment_pb2.DESCRIPTOR.services_by_name["PaymentService"],
    review_pb2.DESCRIPTOR.services_by_name["ReviewService"],
    profile_pb2.DESCRIPTOR.services_by_name["ProfileService"],
)
"""The services of the booking contract."""

# By method, whether it changes something: then it takes a request_id.
_WRITES: Final = {
    f"{service.full_name}/{method.name}": "request_id" in method.input_type.fields_by_name
    for service in SERVICES
    for method in service.methods
}


class Telemetry:
    """Emits events of the servicers."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def viewed(self, package: Package) -> None:
        """Emit a view of a package, if the RPC belongs to a session."""
        call = current_call.get()
        if call is None or not call.session_id:
            return
        event = PackageViewed(
            package_id=str(package.id),
            package_type=package.type,
            location=package.location,
            vendor_id=str(package.vendor_id),
        )
        self._emitter.emit(event, session_id=call.session_id)

    def on_rpc(self, end: RpcEnd) -> None:
        """Count an RPC at its end, and emit an event if it was refused."""
        write = _WRITES.get(end.method)
        if write is None:
            return
        ok = end.reason == ""
        self._emitter.count_rpc(end.method, write=write, ok=ok, queries=end.queries)
        if ok:
            return
        event = RpcRefused(
            rpc=end.method,
            code=end.code.value[0],
            reason=end.reason if end.kind else "UNKNOWN",
            # Without a kind the caller cancelled or its deadline passed; errors have one.
            kind=end.kind or "caller",
            counts_as_error=end.counts_as_error,
            package_id=_package_id(end.request),
        )
        self._emitter.emit(event, session_id=end.call.session_id)


def _package_id(request: object) -> str:
    """Return the package_id of a request if it is a UUID, else nothing."""
    text = getattr(request, "package_id", "")
    try:
        return str(UUID(text))
    except ValueError:
        return ""
