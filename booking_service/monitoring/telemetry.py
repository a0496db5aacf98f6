"""What this service tells the metrics of its RPCs: views, refusals, and how many there were.

It waits for nothing and counts only the RPCs of the booking contract.
"""

from __future__ import annotations

from uuid import UUID

from google.protobuf.descriptor import ServiceDescriptor

from booking_service.domain.package import Package
from metrics_service.client.host import Emitter
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.tracking.v1.event_pb2 import PackageViewed, RpcRefused
from servicekit.context import current_call
from servicekit.interceptors import RpcEnd

SERVICES: tuple[ServiceDescriptor, ...] = (
    catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
    booking_pb2.DESCRIPTOR.services_by_name["BookingService"],
    payment_pb2.DESCRIPTOR.services_by_name["PaymentService"],
    review_pb2.DESCRIPTOR.services_by_name["ReviewService"],
    profile_pb2.DESCRIPTOR.services_by_name["ProfileService"],
)
"""The services of the booking contract."""

# By method: whether it changes something, which is when it takes a request_id.
_WRITES = {
    f"{service.full_name}/{method.name}": "request_id" in method.input_type.fields_by_name
    for service in SERVICES
    for method in service.methods
}


class Telemetry:
    """Emits what happens in the servicers; `on_rpc` is for the end of each RPC."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def viewed(self, package: Package) -> None:
        """A package was shown; without a session nobody can be said to have looked at it."""
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
        """An RPC ended: it is tallied, and told of when it was refused."""
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
            # A caller that went away or ran out of time; all else is of the catalogue.
            kind=end.kind or "caller",
            counts_as_error=end.counts_as_error,
            package_id=_package_id(end.request),
        )
        self._emitter.emit(event, session_id=end.call.session_id)


def _package_id(request: object) -> str:
    """The package that a request names, if what it names can be one."""
    text = getattr(request, "package_id", "")
    try:
        return str(UUID(text))
    except ValueError:
        return ""
