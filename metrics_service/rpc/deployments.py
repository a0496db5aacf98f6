"""Serves metrics.v1.DeploymentService: deployments are in the database, and reports are made from
the state, and from the history where hours have left it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import grpc

from metrics_service.alerts.deployments.hours import SPAN_US, Fired, HourReader, begin_of
from metrics_service.alerts.deployments.past import READ, PastHours
from metrics_service.alerts.deployments.report import report
from metrics_service.rpc import validate
from metrics_service.state.series.past import Border
from metrics_service.state.tables import HourCells
from metrics_service.storage.deployments import Deployment
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.history_reader import StoredCell
from protos.metrics.v1 import deployment_pb2, deployment_pb2_grpc
from servicekit.background import TimeSlice
from servicekit.clock import wall_us
from servicekit.context import current_call
from servicekit.errors import UNAVAILABLE, ApiError, ErrorSpec

SERVICE: Final = deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"].full_name

MAX_LISTED: Final = 100

DEPLOYMENT_NOT_FOUND: Final = ErrorSpec(
    reason="DEPLOYMENT_NOT_FOUND",
    code=grpc.StatusCode.NOT_FOUND,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="No deployment of this id was marked, or none at all.",
)

T = TypeVar("T")


class Hourly(Protocol):
    """What is read of the state."""

    as_of_us: int

    @property
    def border(self) -> Border: ...

    def hour(self, time_us: int) -> HourCells: ...


class Past(Protocol):
    """What is read of the history (see storage.history_reader.HistoryReader)."""

    async def hours(self, table: str, low_us: int, high_us: int) -> list[StoredCell]: ...

    async def kept_since(self) -> int | None: ...


class Kept(Protocol):
    """The table of deployments (see storage.deployments.Deployments)."""

    async def mark(self, version: str, time_us: int, marked_by: str) -> Deployment: ...

    async def find(self, id_: str) -> Deployment | None: ...

    async def newest(self, limit: int) -> list[Deployment]: ...

    async def critical_alerts(self, since_us: int) -> list[tuple[str, int]] | None: ...


class DeploymentService(deployment_pb2_grpc.DeploymentServiceServicer):
    """The RPCs of metrics.v1.DeploymentService."""

    def __init__(
        self,
        kept: Kept,
        state: Callable[[], Hourly],
        history: Past,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        self._kept = kept
        self._state = state
        self._history = history
        self._now_us = now_us

    async def MarkDeployment(
        self, request: deployment_pb2.MarkDeploymentRequest, context: object
    ) -> deployment_pb2.Deployment:
        """Store a deployment; the same one again changes nothing."""
        time_us = validate.deployment(request, self._now_us())
        if not request.HasField("time"):
            newest = await _stored(self._kept.newest(1))
            if newest and newest[0].version == request.version:
                return _message(newest[0])
        call = current_call.get()
        marked_by = call.caller if call is not None else ""
        return _message(await _stored(self._kept.mark(request.version, time_us, marked_by)))

    async def ListDeployments(
        self, request: deployment_pb2.ListDeploymentsRequest, context: object
    ) -> deployment_pb2.ListDeploymentsResponse:
        newest = await _stored(self._kept.newest(MAX_LISTED))
        return deployment_pb2.ListDeploymentsResponse(deployments=map(_message, newest))

    async def GetDeploymentReport(
        self, request: deployment_pb2.GetDeploymentReportRequest, context: object
    ) -> deployment_pb2.DeploymentReport:
        """Judge the figures as of now, so that late ones count too."""
        validate.identifier("id", request.id)
        deployment = await self._find(request.id)
        since_us = begin_of(deployment.time_us) - SPAN_US
        fired = await _stored(self._kept.critical_alerts(since_us))
        alerts = None if fired is None else [Fired(*each) for each in fired]
        hours = await self._hours(deployment.time_us, since_us)
        await TimeSlice().run(hours.steps())
        return report(_message(deployment), hours.watch(alerts))

    async def _hours(self, deployed_us: int, since_us: int) -> HourReader:
        """Return what reads the hours: of the state those after its border, which are whole there;
        of the history those before it.
        """
        state = self._state()
        border_us = state.border.from_us
        if since_us >= border_us:
            return HourReader(state.hour, deployed_us, state.as_of_us)
        until_us = begin_of(deployed_us) + SPAN_US
        cells = {
            table: {
                cell.begin_us: cell.data
                for cell in await _stored(self._history.hours(table, since_us, until_us))
            }
            for table in READ
        }
        first_us = await _stored(self._history.kept_since())
        past, state = PastHours(cells), self._state()

        def read(time_us: int) -> HourCells:
            # The border may have moved: what it has passed since is in the history too.
            return state.hour(time_us) if time_us >= state.border.from_us else past.hour(time_us)

        kept_us = border_us if first_us is None else min(first_us, border_us)
        return HourReader(read, deployed_us, state.as_of_us, kept_us)

    async def _find(self, id_: str) -> Deployment:
        if id_:
            found = await _stored(self._kept.find(id_))
        else:
            found = next(iter(await _stored(self._kept.newest(1))), None)
        if found is None:
            raise ApiError(
                DEPLOYMENT_NOT_FOUND,
                "no deployment of this id was marked" if id_ else "no deployment was marked yet",
                resource=("deployment", id_),
            )
        return found


async def _stored(query: Awaitable[T]) -> T:
    """Await what the database answers. Raises ApiError where it does not."""
    try:
        return await query
    except LogUnavailableError:
        raise ApiError(
            UNAVAILABLE, "the metrics database cannot be reached", retry_after_s=1.0
        ) from None


def _message(deployment: Deployment) -> deployment_pb2.Deployment:
    message = deployment_pb2.Deployment(
        id=deployment.id, version=deployment.version, marked_by=deployment.marked_by
    )
    message.time.FromMicroseconds(deployment.time_us)
    return message
