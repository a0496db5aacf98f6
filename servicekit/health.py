"""Serves grpc.health.v1 for this process and its services.

Setting a status never waits; once draining, every status stays NOT_SERVING.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.errors import not_found

Status = health_pb2.HealthCheckResponse
Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):
    """The health servicer. The service `""` is the process; others exist once set."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": False}
        self._changed = asyncio.Event()
        self._draining = False

    def set(self, service: str, serving: bool) -> None:
        """Set whether `service` serves, and notify watchers. Ignored while draining."""
        if not self._draining and self._serving.get(service) is not serving:
            self._serving[service] = serving
            self._notify()

    def get(self, service: str) -> bool | None:
        """Return whether `service` serves; None if it was never set."""
        return self._serving.get(service)

    def drain(self) -> None:
        """Set everything NOT_SERVING for good, and end the watchers' streams after that."""
        self._draining = True
        self._serving = dict.fromkeys(self._serving, False)
        self._notify()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Status:
        """Answer the current status of a service. NOT_FOUND if it was never set."""
        serving = self._serving.get(request.service)
        if serving is None:
            raise not_found("service", request.service)
        return Status(status=_status(serving))

    async def List(self, request: Any, context: Context) -> Any:
        """Answer the current status of the process and of every service that was set."""
        statuses = {name: Status(status=_status(each)) for name, each in self._serving.items()}
        # The stubs package does not know its messages.
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Send the current status and each change; SERVICE_UNKNOWN until the service is set."""
        sent: int | None = None
        while True:
            changed, draining = self._changed, self._draining
            status = _status(self._serving.get(request.service))
            if status != sent:
                await context.write(Status(status=status))
                sent = status
            if draining:
                return
            await changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _status(serving: bool | None) -> int:
    if serving is None:
        return Status.SERVICE_UNKNOWN
    return Status.SERVING if serving else Status.NOT_SERVING
