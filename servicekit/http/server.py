"""Runs the HTTP side in the event loop of the service, which alone handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette

from servicekit.http.connections import BoundedConnection
from servicekit.start import StartError
from servicekit.tls import ServerTls

HANDSHAKE_TIMEOUT_S: Final = 3.0


class HttpServer:
    """One listening socket and the application behind it."""

    def __init__(
        self,
        app: Starlette,
        *,
        host: str,
        port: int,
        setting: str,
        tls: ServerTls | None = None,
    ) -> None:
        """Make one; `setting` is the variable that chooses the port, for messages."""
        self._app = app
        self._tls = tls
        self._host = host
        self._port = port
        self._setting = setting
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port, which the system chose where 0 was given. Raises StartError."""
        tls = self._tls
        listener = listen(self._host, self._port, setting=self._setting)
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
            ssl_context_factory=None if tls is None else lambda *_: tls.context(),
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
    """Has no signal handlers, which would replace those of the service, and bounds handshakes."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()

        def connect() -> BoundedConnection:
            return BoundedConnection(config, self.server_state, self.lifespan.state)

        self.servers = [
            await loop.create_server(
                connect,
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                # A client has 60 s by default, in which its connection is not counted.
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if config.ssl else None,
            )
            for listener in sockets or []
        ]
        self.started = True

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
