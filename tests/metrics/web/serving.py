"""The HTTP side alone, over a real socket, with what a test gives it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping

import httpx
from starlette.applications import Starlette

from metrics_service.rpc.register import EARLY
from metrics_service.web.app import create_app
from metrics_service.web.calls import Calls
from metrics_service.web.stream import Streams
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.http.hosts import ANY
from servicekit.http.server import HttpServer
from servicekit.identity.gate import EVERYBODY, Gate
from tests.metrics.running_service import BOUND_S
from tests.metrics.web.no_figures import no_figures


@contextlib.asynccontextmanager
async def calling(
    servicers: Mapping[str, object] | None = None,
    *,
    starting: Callable[[], bool] = lambda: False,
    on_fault: Callable[[], None] = lambda: None,
    gate: Gate = EVERYBODY,
    streams: Streams | None = None,
    hosts: Collection[str] = (ANY,),
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the paths that these parts serve, and of the page."""
    calls = Calls(servicers or {}, early=EARLY, starting=starting, on_fault=on_fault)
    health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
    app = create_app(
        no_figures, lambda _: health, gate=gate, calls=calls, streams=streams, hosts=hosts
    )
    async with client_of(app) as client:
        yield client


@contextlib.asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, behind the real server."""
    server = HttpServer(app, host="127.0.0.1", port=0, setting="METRICS_HTTP_PORT")
    port = await server.start()
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=BOUND_S
        ) as client:
            yield client
    finally:
        await server.stop()
