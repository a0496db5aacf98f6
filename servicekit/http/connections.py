"""Bounds what a client may hold of the HTTP side: uvicorn alone waits without end for the rest of a
request, and refuses everybody once too many connections wait.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 256
"""Connections at a time; a further one takes the place of the one that is idle for longest or, if
none is, of the one whose client has taken no whole answer for longest.
"""

MAX_REQUEST_S: Final = 5.0
"""The time for a whole request, from the connection or the last answer on."""

MAX_ANSWER_S: Final = 30.0
"""The time for the client to take an answer, after that."""

STREAM_BUFFER_BYTES: Final = 128 * 1024
"""What the system may hold of a stream that is sent and not taken, of which Linux takes the double.
By itself it comes to hold megabytes, so that a stall shows after many minutes.
"""

NAMES: Final = "certificate_names"
"""Where the state of a request has the URIs and DNS names of the client's certificate."""

CONNECTION: Final = "connection"
"""Where it has the BoundedConnection."""


class BoundedConnection(H11Protocol):
    """One connection, which is cut when the client is too slow or, while it is idle, for others."""

    _timer: asyncio.TimerHandle | None = None
    _answering = False
    _idle_since_s = 0.0
    _cut = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a new connection, and make room for it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, NAMES: _names(transport), CONNECTION: self}
        self._wait_for_request()
        # Those that close count too: they do so once their client has taken the last answer.
        held = [each for each in self.connections if isinstance(each, BoundedConnection)]
        held = [each for each in held if not each._cut and each is not self]
        if len(held) >= MAX_CONNECTIONS:
            min(held, key=lambda each: (not each.idle, each._idle_since_s)).cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        self._set_timer(None)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP, and end the connection.

        They may be the body of a request that is being answered: uvicorn alone goes on with that
        answer after this one, and fails.
        """
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.cut_off()
                return
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """Note the end of an answer; the next request may follow."""
        super().on_response_complete()
        self._wait_for_request()

    def begin_stream(self) -> None:
        """Let the present answer take any time: who gives it calls `cut_off` when it stalls."""
        self._set_timer(None)
        connected: socket.socket = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)

    def cut_off(self) -> None:
        """End the connection, without waiting for its client to take what was sent."""
        self._cut = True
        self.transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._answering = False
        self._idle_since_s = self.loop.time()
        self._set_timer(MAX_REQUEST_S)

    def _on_late(self) -> None:
        if self.idle or self._answering:
            self.cut_off()
        else:
            self._answering = True
            self._set_timer(MAX_ANSWER_S)

    def _set_timer(self, after_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s is not None:
            self._timer = self.loop.call_later(after_s, self._on_late)


def _names(transport: asyncio.BaseTransport) -> list[str]:
    connection = transport.get_extra_info("ssl_object")
    certificate = None if connection is None else connection.getpeercert()
    names = (certificate or {}).get("subjectAltName", ())
    return [name for wanted in ("URI", "DNS") for kind, name in names if kind == wanted]
