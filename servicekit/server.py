"""Runs a gRPC server from bind to drain.

Plaintext is served on loopback only, unless the settings allow it elsewhere; while draining, new
RPCs are refused and those in flight have a bounded time to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from servicekit import reflection
from servicekit.context import QueryCount
from servicekit.handlers import MAX_MESSAGE_BYTES
from servicekit.health import Health
from servicekit.identity.access import Access
from servicekit.identity.gate import gate
from servicekit.interceptors import RpcInterceptor
from servicekit.metadata import caller_header
from servicekit.rpc_end import RpcEnd
from servicekit.settings import ServerSettings, SettingsError
from servicekit.start import StartError, run
from servicekit.tls import server_tls
from servicekit.tracing import create
from servicekit.tracing.tracer import OFF, Tracer

__all__ = ["GrpcServer", "StartError", "run"]

MAX_CALLS: Final = 1_024
"""Calls at a time on a connection."""

MAX_HANDSHAKE_MS: Final = 5_000
MAX_IDLE_MS: Final = 300_000
"""A connection without a call is closed after that; a client then connects for its next one."""

OPTIONS: Final = (
    # By default a second process would silently share the port and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # Without it a frozen peer is detected only after a minute, despite the other two.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Counted until this process has done with a call, so that calls which a client begins and
    # resets pile up no further than that; a client waits, or is told UNAVAILABLE, beyond it.
    ("grpc.max_concurrent_streams", MAX_CALLS),
    # For TLS, and for the first frame that a client must send.
    ("grpc.server_handshake_timeout_ms", MAX_HANDSHAKE_MS),
    ("grpc.http2.settings_timeout", MAX_HANDSHAKE_MS),
    ("grpc.max_connection_idle_ms", MAX_IDLE_MS),
)

STOP_GRACE_S: Final = 0.1
"""The time for connections to deliver the last answers."""


def check_files(settings: ServerSettings) -> None:
    """Read the files that the settings name, and look for the extra that they need. Raises
    SettingsError in one line.
    """
    server_tls(settings)
    gate(settings, Access({}), caller_header)
    if line := create.missing(settings):
        raise SettingsError(line)


class GrpcServer:
    """One listening server. Register servicers on `grpc`, then `start`.

    `domain` is that of ErrorInfo; `on_rpc` is called at the end of each RPC, `count_queries` at its
    beginning; `large_messages` are the full methods that take messages of up to 1 MiB; `early` are
    the services, such as `metrics.v1.HealthService`, that answer before it serves; `access` is the
    table of who may call what, which counts where the settings name identities; `tracer` makes the
    spans of RPCs; `counts` are those of its RPCs. `draining` is set when `drain` begins: the
    handler of a long stream waits for it and ends its stream.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        domain: str,
        on_rpc: Callable[[RpcEnd], None] | None = None,
        count_queries: Callable[[], QueryCount] | None = None,
        large_messages: Collection[str] = (),
        early: Collection[str] = (),
        access: Access | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        """Make the server. Raises SettingsError when the file of identities is not good."""
        self._settings = settings
        self.gate = gate(settings, access or Access({}), caller_header)
        self._interceptor = RpcInterceptor(
            domain,
            on_rpc=on_rpc,
            count_queries=count_queries,
            gate=self.gate,
            tracer=tracer,
            large_messages=large_messages,
            early=early,
            max_stream_s=settings.connection_age_s,
        )
        age_ms = round(settings.connection_age_s * 1000)
        options = (
            *OPTIONS,
            ("grpc.max_allowed_incoming_connections", settings.connections_max),
            ("grpc.max_connection_age_ms", age_ms),
            # Streams end by themselves in that time; what is left then is cut.
            ("grpc.max_connection_age_grace_ms", age_ms),
        )
        self.counts = self._interceptor.counts
        self.grpc = grpc.aio.server(interceptors=[self._interceptor], options=options)
        self.health = Health()
        self.draining = asyncio.Event()
        # Services whose status only follows that of the process.
        self._unset: set[str] = set()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.grpc)

    async def start(self, service_names: Sequence[str]) -> int:
        """Listen and serve, and return the port; as `listen`, then `serve`."""
        port = await self.listen(service_names)
        self.serve(service_names)
        return port

    async def listen(self, service_names: Sequence[str]) -> int:
        """Listen, and return the port. Until `serve`, every service is NOT_SERVING, and RPCs are
        UNAVAILABLE, with the reason STARTING, but those of health checks and of `early` services.

        Raises `StartError` in one line when the port is taken or a TLS file cannot be used.
        """
        self._interceptor.starting = True
        self.counts.declare(service_names)
        for name in service_names:
            if self.health.get(name) is None:
                self.health.set(name, False)
                self._unset.add(name)
        settings = self._settings
        if settings.reflection:
            reflection.enable([*service_names, health.SERVICE_NAME], self.grpc)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.port}"
        tls = server_tls(settings)
        self._refuse_taken()
        try:
            if tls is None:
                port = self.grpc.add_insecure_port(address)
            else:
                port = self.grpc.add_secure_port(address, tls.grpc_credentials())
        except RuntimeError:
            raise StartError(self._cannot_listen("it is taken by another process")) from None
        await self.grpc.start()
        return port

    def serve(self, service_names: Sequence[str]) -> None:
        """Answer every RPC. Every service of `service_names` (such as `booking.v1.BookingService`)
        that has no health status of its own, and the process itself, become SERVING.
        """
        self._interceptor.starting = False
        for name in ("", *service_names):
            if name == "" or name in self._unset:
                self.health.set(name, True)

    async def drain(self) -> None:
        """Become NOT_SERVING, refuse new RPCs, and wait up to drain_timeout_s for the others."""
        # gRPC alone would cancel an RPC that arrives just as it stops; the interceptor answers it.
        self._interceptor.draining = True
        self.draining.set()
        self.health.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await self._interceptor.wait_idle()
        await self.grpc.stop(STOP_GRACE_S)

    def _refuse_taken(self) -> None:
        """Try the address first: gRPC's own refusal also writes log lines of its core."""
        settings = self._settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as probe:
            # As gRPC does: lingering connections of an earlier run do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
            except OSError as error:
                raise StartError(self._cannot_listen(error.strerror or str(error))) from None

    def _cannot_listen(self, why: str) -> str:
        settings = self._settings
        prefix = settings.model_config.get("env_prefix", "")
        return (
            f"cannot listen on {settings.host}:{settings.port}: {why}; set {prefix}PORT or "
            f"{prefix}HOST to a free one"
        )
