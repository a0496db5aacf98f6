"""`GET /api/stream`: server-sent events to one reader, until it leaves, takes nothing for too long,
or the service stops.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metrics_service.fanout import ClosedError, FullError
from metrics_service.web.live import Live, Reader
from metrics_service.web.window import window_of
from servicekit.errors import DRAINING, TOO_MANY_STREAMS, ApiError
from servicekit.http.answers import DATA
from servicekit.http.connections import CONNECTION, BoundedConnection
from servicekit.http.refused import RefusedRequest
from servicekit.pauses import pause_tolerant_timeout

MEDIA_TYPE: Final = "text/event-stream"
RETRY_MS: Final = 2_000
"""After this a browser opens a stream again that has ended."""

BUSY_RETRY_S: Final = 5.0


class Streams:
    """Opens streams: each ends when nothing of it is taken for stall_s, or at about max_age_s, so
    that who may read it is asked again.
    """

    def __init__(self, live: Live, *, stall_s: float, max_age_s: float) -> None:
        self._live = live
        self._stall_s = stall_s
        self._max_age_s = max_age_s

    async def open(self, request: Request) -> ASGIApp:
        """Return the stream of the window that is asked for. Raises BadWindowError and
        RefusedRequest.
        """
        window = window_of(request.query_params)
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)
        try:
            reader = self._live.join(window)
        except FullError:
            full = ApiError(
                TOO_MANY_STREAMS, "too many streams are open", retry_after_s=BUSY_RETRY_S
            )
            raise RefusedRequest(full) from None
        except ClosedError:
            ending = ApiError(DRAINING, "this process is ending", retry_after_s=1.0)
            raise RefusedRequest(ending) from None

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self._serve(reader, scope, receive, send)
            finally:
                self._live.leave(reader)

        return stream

    async def _serve(self, reader: Reader, scope: Scope, receive: Receive, send: Send) -> None:
        connection: BoundedConnection = scope["state"][CONNECTION]
        connection.begin_stream()
        age_s = self._max_age_s * random.uniform(0.9, 1.0)  # noqa: S311 - jitter
        ageing = asyncio.get_running_loop().call_later(age_s, reader.end)
        leaving = asyncio.create_task(_left(receive), name="reader of the page")
        leaving.add_done_callback(lambda _: reader.end())
        try:
            await send(_HEAD)
            frame: bytes | None = b"retry: %d\n\n" % RETRY_MS
            while frame is not None:
                await pause_tolerant_timeout(self._stall_s, _write(send, frame))
                frame = await reader.take()
            if not leaving.done():
                await pause_tolerant_timeout(self._stall_s, _write(send, b"", more=False))
        except TimeoutError:
            connection.cut_off()
            await leaving
        finally:
            ageing.cancel()
            leaving.cancel()


_HEAD: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
        *((name.lower().encode(), value.encode()) for name, value in DATA.items()),
        # Some proxies hold answers back to send them in one.
        (b"x-accel-buffering", b"no"),
    ],
}


async def _write(send: Send, frame: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": frame, "more_body": more})


async def _left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
