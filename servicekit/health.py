"""grpc.health.v1: what a monitor or an orchestrator is told of this process and its services.

A status is set without waiting, from anywhere on the loop; once draining, nothing serves again.
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
    """The health servicer. The service ``""`` is the process; others are known once set."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": False}
        self._changed = asyncio.Event()
        self._draining = False

    def set(self, service: str, serving: bool) -> None:
        """Says whether ``service`` serves; watchers are told. Ignored while draining."""
        if not self._draining and self._serving.get(service) is not serving:
            self._serving[service] = serving
            self._tell()

    def get(self, service: str) -> bool | None:
        """Whether ``service`` serves; None for one never set."""
        return self._serving.get(service)

    def drain(self) -> None:
        """Everything stops serving for good, and watchers' streams end after being told."""
        self._draining = True
        self._serving = dict.fromkeys(self._serving, False)
        self._tell()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Status:
        """The service's status now. NOT_FOUND for one never set."""
        serving = self._serving.get(request.service)
        if serving is None:
            raise not_found("service", request.service)
        return Status(status=_status(serving))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """The status now and after each change; SERVICE_UNKNOWN until the service is set."""
        told: int | None = None
        while True:
            changed, draining = self._changed, self._draining
            status = _status(self._serving.get(request.service))
            if status != told:
                await context.write(Status(status=status))
                told = status
            if draining:
                return
            await changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _status(serving: bool | None) -> int:
    if serving is None:
        return Status.SERVICE_UNKNOWN
    return Status.SERVING if serving else Status.NOT_SERVING
