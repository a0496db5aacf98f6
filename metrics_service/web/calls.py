"""Answers by HTTP what a unary RPC without effect answers by gRPC: the same servicer, for those who
may call it by gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.web import fields
from metrics_service.web.encode import encode
from metrics_service.web.large import LargeAnswers
from protos.metrics.v1 import alert_pb2, deployment_pb2, health_pb2, metrics_pb2
from servicekit.errors import STARTING, ApiError
from servicekit.http.answers import DATA
from servicekit.http.guard import Endpoint, Guard
from servicekit.http.refused import RefusedRequest

METHODS: Final = frozenset(
    {
        "GetAlert",
        "GetDatabaseHealth",
        "GetDeploymentReport",
        "GetErrorBreakdown",
        "GetFunnel",
        "GetJourney",
        "GetMetrics",
        "GetQueryStats",
        "GetSeries",
        "ListAlerts",
        "ListDeployments",
        "ListRecentQueries",
        "ListSessions",
        "ListSilences",
        "ListSlowQueries",
    }
)
"""What a GET may do: each reads, and changes nothing."""

FILES: Final[tuple[FileDescriptor, ...]] = (
    metrics_pb2.DESCRIPTOR,
    alert_pb2.DESCRIPTOR,
    deployment_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
)

FIGURES: Final = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name

MAX_ENCODING: Final = 2
"""Answers that are encoded at a time: a large one is held twice meanwhile."""

RETRY_S: Final = 1.0


class Method(NamedTuple):
    """An RPC that is served; `name` is in full, such as `metrics.v1.MetricsService/GetMetrics`."""

    service: str
    name: str
    request: type[Message]
    answer: type[Message]


def methods() -> dict[str, Method]:
    """Return METHODS by their names."""
    return {
        method.name: Method(
            service.full_name,
            f"{service.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
        if method.name in METHODS
    }


class Calls:
    """The servicers by the names of their services. `early` are those that answer while `starting`;
    `on_fault` is called when the figures cannot be answered.
    """

    def __init__(
        self,
        servicers: Mapping[str, object],
        *,
        early: Collection[str],
        starting: Callable[[], bool],
        on_fault: Callable[[], None],
    ) -> None:
        self._servicers = servicers
        self._early = frozenset(early)
        self._starting = starting
        self._on_fault = on_fault
        self._large = LargeAnswers()
        self._encoding = asyncio.Semaphore(MAX_ENCODING)

    def routes(self, guard: Guard) -> list[Route]:
        """Return `/api/rpc/NAME` for each method."""
        return [
            Route(f"/api/rpc/{name}", guard.guarded(self._endpoint(name, method), method.name))
            for name, method in methods().items()
            if method.service in self._servicers
        ]

    def _endpoint(self, name: str, method: Method) -> Endpoint:
        # The servicers of all services have their methods in common with the contract alone.
        behaviour: Any = getattr(self._servicers[method.service], name)

        async def call(request: Request) -> ASGIApp:
            try:
                if method.service not in self._early and self._starting():
                    raise ApiError(
                        STARTING, "this process does not serve yet", retry_after_s=RETRY_S
                    )
                asked = fields.read(method.request, request.query_params.multi_items())
                answer: Message = await behaviour(asked, None)
                async with self._encoding:
                    body = await encode(answer)
                return self._large.answer(body, DATA)
            except ApiError as refusal:
                raise RefusedRequest(refusal) from None
            except UnreadableError:
                raise
            except Exception:
                if method.service == FIGURES:
                    self._on_fault()
                raise

        return call
