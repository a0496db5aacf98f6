"""Runs the HTTP side in the event loop of the service, which alone handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from metrics_service.web.connections import BoundedConnection
from servicekit.start import StartError


class HttpServer:
    """One listening socket and the application behind it."""

    def __init__(self, app: Starlette, *, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port, which the system chose where 0 was given. Raises StartError."""
        listener = listen(self._host, self._port, setting="METRICS_HTTP_PORT")
        config = uvicorn.Config(
            self._app,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            # It reports each start and stop; the service's own lines say so.
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        port: int = listener.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening and end open requests within about a second."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _QuietServer(uvicorn.Server):
    """Has no signal handlers: uvicorn's own would replace those of the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Open a listening socket. Raises StartError with one line that names the setting to change."""
    where = f"{host}:{port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {where}: {error.strerror}") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {where}: {error.strerror}; {setting} chooses another port"
        ) from None
    listener.setblocking(False)
    return listener
