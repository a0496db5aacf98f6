"""Serves tracking.v1.TrackingService: hands to the ingest what each caller may send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from metrics_service.eventlog.errors import FullError
from metrics_service.ingest.streams import Ingest
from metrics_service.rpc.single_event import single_event
from metrics_service.storage.errors import LogUnavailableError, line_of
from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc
from servicekit.caller import LOCAL, Identity, Lane
from servicekit.context import current_call
from servicekit.errors import OVERLOADED, PERMISSION_DENIED, UNAVAILABLE, ApiError
from servicekit.identity.access import AccessRefused

SERVICE: Final = tracking_pb2.DESCRIPTOR.services_by_name["TrackingService"].full_name

_LANES: Final[Mapping[int, Lane]] = {
    tracking_pb2.LANE_FACTS: "facts",
    tracking_pb2.LANE_TELEMETRY: "telemetry",
}


RETRY_S: Final = 0.5
FULL_RETRY_S: Final = 60.0


class TrackingService(tracking_pb2_grpc.TrackingServiceServicer):
    """The RPCs of tracking.v1.TrackingService."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Stream(  # type: ignore[override]  # grpc.aio streams with context.write
        self, request_iterator: AsyncIterator[tracking_pb2.ClientFrame], context: Any
    ) -> None:
        """Serve one stream until either side ends it."""
        call = current_call.get()
        speaker = _Speaker(LOCAL if call is None else call.identity)
        await self._ingest.serve(request_iterator, context.write, speaker.may_open)
        if speaker.denied is not None:
            raise speaker.denied

    async def Track(
        self, request: tracking_pb2.TrackRequest, context: object
    ) -> tracking_pb2.TrackResponse:
        """Store one event once by its id; the answer follows its commit."""
        call = current_call.get()
        caller = LOCAL if call is None else call.identity
        if not _may_send(caller, "telemetry", request.service):
            raise _denial(caller, "telemetry", request.service)
        event = single_event(request)
        try:
            is_new = await self._ingest.append_single(event)
        except LogUnavailableError as reason:
            raise ApiError(UNAVAILABLE, line_of(reason), retry_after_s=RETRY_S) from None
        except FullError as reason:
            raise ApiError(OVERLOADED, line_of(reason), retry_after_s=FULL_RETRY_S) from None
        return tracking_pb2.TrackResponse(already_stored=not is_new)


def _may_send(speaker: Identity, lane: Lane, service: str) -> bool:
    return lane in speaker.lanes and (speaker.services is None or service in speaker.services)


def _denial(speaker: Identity, lane: Lane, service: str) -> AccessRefused:
    what = f"{lane} of {service[:100]!r}"
    return AccessRefused(PERMISSION_DENIED, f"{speaker.name} may not send {what}")


class _Speaker:
    """The caller of a stream, which ends at a Hello for a service or lane that it may not send
    events of; `denied` says so then.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.denied: AccessRefused | None = None

    def may_open(self, hello: tracking_pb2.Hello) -> bool:
        # The ingest itself refuses a lane that does not exist.
        lane = _LANES.get(hello.lane)
        if lane is not None and not _may_send(self._identity, lane, hello.service):
            self.denied = _denial(self._identity, lane, hello.service)
        return self.denied is None
