"""Sets up the instrumentation of a process in one call and ends it in another; what is lost because
the second call is missing is reported when the process exits.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Callable
from typing import Final

from metrics_service.client.booking.flow import BookingFlow
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import Tracker, default_tracker, set_default_tracker
from protos.tracking.v1 import tracking_pb2
from servicekit.channels import PLAINTEXT, ClientFiles

flow: Final = BookingFlow()
"""The booking flow of the process: before init it sends nothing, and counts that."""


class Instrumentation:
    """What init has set up: the emitter and its stream."""

    def __init__(self, emitter: Emitter, stream: StreamClient, former: Tracker | None) -> None:
        self.emitter = emitter
        self.stream = stream
        self._former = former
        atexit.register(self._report_loss)

    async def close(self, drain_timeout_s: float = 2.0) -> None:
        """Send what is buffered, within the time given, and end the stream."""
        atexit.unregister(self._report_loss)
        await self.stream.stop(drain_timeout_s)
        if flow.emitter is self.emitter:
            flow.emitter = None
            set_default_tracker(self._former)

    def _report_loss(self) -> None:
        unsent = self.emitter.unsent
        if unsent:
            events = "1 event was" if unsent == 1 else f"{unsent} events were"
            print(
                f"metrics_service.client: {events} not sent;"
                " call close() before the event loop ends",
                file=sys.stderr,
            )


def init(
    target: str,
    *,
    service: str,
    signals: Callable[[], tracking_pb2.Signals] = tracking_pb2.Signals,
    files: ClientFiles = PLAINTEXT,
) -> Instrumentation:
    """Instrument this process: the default tracker of queries and `flow` send to metrics_service at
    target, such as "127.0.0.1:50052". Does not wait for the server. `files` are those of TLS and of
    the process's token or certificate, read for each connection.

    Raises RuntimeError outside a running event loop, and has then set nothing.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "call client.init() inside the event loop, such as at the start of main()"
        ) from None
    emitter = Emitter(service)
    stream = StreamClient(
        target, service=service, instance=emitter.instance, signals=signals, files=files
    )
    stream.add_lane(emitter)
    stream.start_soon()
    instrumentation = Instrumentation(emitter, stream, default_tracker())
    flow.emitter = emitter
    set_default_tracker(Tracker([emitter]))
    return instrumentation
