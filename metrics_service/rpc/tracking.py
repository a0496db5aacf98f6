"""TrackingService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from metrics_service.ingest.streams import Ingest
from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc


class TrackingService(tracking_pb2_grpc.TrackingServiceServicer):
    """Hands each stream to the ingest."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def Stream(  # type: ignore[override]  # grpc.aio streams with context.write
        self, request_iterator: AsyncIterator[tracking_pb2.ClientFrame], context: Any
    ) -> None:
        """Serve one stream until either side ends it."""
        # Else a first frame that is never taken leaves no way to end the stream.
        await context.send_initial_metadata(())
        await self._ingest.serve(request_iterator, context.write)
