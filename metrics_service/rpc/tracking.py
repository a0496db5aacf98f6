"""Serves tracking.v1.TrackingService: hands each stream to the ingest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from metrics_service.ingest.streams import Ingest
from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc

SERVICE: Final = tracking_pb2.DESCRIPTOR.services_by_name["TrackingService"].full_name


class TrackingService(tracking_pb2_grpc.TrackingServiceServicer):
    """The RPCs of tracking.v1.TrackingService."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Stream(  # type: ignore[override]  # grpc.aio streams with context.write
        self, request_iterator: AsyncIterator[tracking_pb2.ClientFrame], context: Any
    ) -> None:
        """Serve one stream until either side ends it."""
        await self._ingest.serve(request_iterator, context.write)
