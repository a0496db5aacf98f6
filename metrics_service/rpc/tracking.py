"""Serves tracking.v1.TrackingService: hands to the ingest what each caller may send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from metrics_service.ingest.streams import Ingest
from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc
from servicekit.caller import LOCAL, Identity, Lane
from servicekit.context import current_call
from servicekit.errors import PERMISSION_DENIED
from servicekit.identity.access import AccessRefused

SERVICE: Final = tracking_pb2.DESCRIPTOR.services_by_name["TrackingService"].full_name

_LANES: Final[Mapping[int, Lane]] = {
    tracking_pb2.LANE_FACTS: "facts",
    tracking_pb2.LANE_TELEMETRY: "telemetry",
}


class TrackingService(tracking_pb2_grpc.TrackingServiceServicer):
    """The RPCs of tracking.v1.TrackingService."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Stream(  # type: ignore[override]  # grpc.aio streams with context.write
        self, request_iterator: AsyncIterator[tracking_pb2.ClientFrame], context: Any
    ) -> None:
        """Serve one stream until either side ends it."""
        call = current_call.get()
        frames = _Allowed(request_iterator, LOCAL if call is None else call.identity)
        await self._ingest.serve(frames, context.write)
        if frames.denied is not None:
            raise frames.denied


class _Allowed:
    """The frames of a client, which end at a Hello for a service or lane that the caller may not
    send events of; `denied` says so then.
    """

    def __init__(self, frames: AsyncIterator[tracking_pb2.ClientFrame], speaker: Identity) -> None:
        self._frames = frames
        self._speaker = speaker
        self.denied: AccessRefused | None = None

    def __aiter__(self) -> _Allowed:
        return self

    async def __anext__(self) -> tracking_pb2.ClientFrame:
        if self.denied is None:
            frame = await anext(self._frames)
            if not frame.HasField("hello") or self._may_send(frame.hello):
                return frame
            self.denied = self._denial(frame.hello)
        raise StopAsyncIteration

    def _may_send(self, hello: tracking_pb2.Hello) -> bool:
        services, lane = self._speaker.services, _LANES.get(hello.lane)
        # The ingest itself refuses a lane that does not exist.
        return lane is None or (
            lane in self._speaker.lanes and (services is None or hello.service in services)
        )

    def _denial(self, hello: tracking_pb2.Hello) -> AccessRefused:
        what = f"{_LANES[hello.lane]} of {hello.service[:100]!r}"
        return AccessRefused(PERMISSION_DENIED, f"{self._speaker.name} may not send {what}")
