"""The HTTP side, as JSON, for monitors and dashboards without gRPC: each answer is of one revision,
and none exposes the text of an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.health.paging import Page, key_of
from metrics_service.state.series.rings import Window
from metrics_service.web.calls import Calls
from metrics_service.web.encode import Json, to_json
from metrics_service.web.page import PageFiles
from metrics_service.web.stream import Streams
from metrics_service.web.window import BadWindowError, window_of
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot
from servicekit.exposition.scrape import PATH
from servicekit.http.answers import DATA, failed, json_answer, refused
from servicekit.http.guard import Endpoint, Guard
from servicekit.http.hosts import ANY, HostFilter
from servicekit.identity.gate import Gate

HOSTS: Final = "METRICS_HTTP_HOSTS"

MAX_ENCODED: Final = 16
UP: Final = (DatabaseHealth.HEALTHY, DatabaseHealth.DEGRADED)


def create_app(
    snapshot: Callable[[Window], Awaitable[MetricsSnapshot]],
    health: Callable[[Page], DatabaseHealth],
    *,
    on_fault: Callable[[], None] = lambda: None,
    gate: Gate,
    calls: Calls | None = None,
    streams: Streams | None = None,
    scrape: Endpoint | None = None,
    hosts: Collection[str] = (ANY,),
) -> Starlette:
    """Create the application; on_fault is called when figures cannot be answered. Who may ask is
    decided by the gate, and for which names of this service by `hosts`.

    GET /api/health/database: 200 when healthy or degraded, 503 otherwise, with the first 100
    instances; ?page_token= with an answer's next_page_token has those that follow, 400 for another.
    GET /api/metrics/bookings: {revision, as_of, window_s, ended_s, metrics, funnel, errors}, all of
    one snapshot, of all times or of ?window=&ended=; 400 names the windows that are kept; 503 when
    the snapshot raises UnreadableError.
    GET /api/rpc/NAME: the answer of the RPC, see Calls. GET /api/stream: events, see Streams.
    GET /metrics: see Scrape. GET / and what the page links to: the page; its files are at /assets/.
    """

    async def database(request: Request) -> Response:
        token = request.query_params.get("page_token", "")
        after = key_of(token)
        if token and after is None:
            raise HTTPException(HTTPStatus.BAD_REQUEST)
        verdict = health(Page(after=after))
        status = HTTPStatus.OK if verdict.status in UP else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer(to_json(verdict), status)

    async def bookings(request: Request) -> Response:
        window = window_of(request.query_params)
        try:
            return _of_bytes(encoded(window, await snapshot(window)))
        except UnreadableError:
            raise
        except Exception:
            on_fault()
            raise

    encoded, guard = _Encoded(), Guard(gate)
    return Starlette(
        routes=[
            Route("/api/health/database", guard.guarded(database)),
            Route("/api/metrics/bookings", guard.guarded(bookings)),
            *(calls.routes(guard) if calls is not None else ()),
            *([Route("/api/stream", guard.guarded(streams.open))] if streams is not None else ()),
            *([Route(PATH, guard.guarded(scrape))] if scrape is not None else ()),
            *PageFiles().routes(guard),
        ],
        middleware=[Middleware(HostFilter, names=hosts, setting=HOSTS)],
        exception_handlers={
            BadWindowError: _bad_window,
            HTTPException: refused,
            UnreadableError: _unreadable,
            Exception: failed,
        },
    )


def _of_bytes(body: bytes) -> Response:
    return Response(body, headers=DATA, media_type="application/json")


class _Encoded:
    """The answers of the newest revision, each encoded once for all that ask. At most
    MAX_ENCODED windows are kept.
    """

    def __init__(self) -> None:
        self._revision = -1
        self._bodies: dict[Window, bytes] = {}

    def __call__(self, window: Window, snapshot: MetricsSnapshot) -> bytes:
        if snapshot.revision != self._revision:
            self._revision = snapshot.revision
            self._bodies.clear()
        body = self._bodies.get(window)
        if body is None:
            body = bytes(json_answer(_booking_metrics(snapshot)).body)
            if len(self._bodies) < MAX_ENCODED:
                self._bodies[window] = body
        return body


def _booking_metrics(snapshot: MetricsSnapshot) -> Json:
    answer = to_json(snapshot)
    metrics: dict[str, Json] = {
        section: answer[section] for section in ("business", "performance", "quality")
    }
    return {
        "revision": answer["revision"],
        "as_of": answer["as_of"],
        "window_s": answer["window_s"],
        "ended_s": answer["ended_s"],
        "metrics": metrics,
        "funnel": answer["funnel"],
        "errors": answer["errors"],
    }


async def _bad_window(request: Request, error: Exception) -> Response:
    """Answer which parameter of a window is wrong, and the choices."""
    status = HTTPStatus.BAD_REQUEST
    parameter = error.parameter if isinstance(error, BadWindowError) else ""
    told: dict[str, Json] = {"error": status.phrase, "path": request.url.path}
    return json_answer({**told, "parameter": parameter, "description": str(error)}, status)


async def _unreadable(request: Request, _: Exception) -> Response:
    """Answer that the figures are to be had again soon."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    body: Json = {"error": status.phrase, "path": request.url.path}
    return json_answer(body, status, {"Retry-After": "1"})
