"""Serves metrics.v1.AlertService: alerts and silences, from memory while this process leads and
from what the leader has stored while it stands by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from metrics_service.alerts.feed import AlertFeed, ClosedError, FullError
from metrics_service.alerts.service import Alerts, StandbyError
from metrics_service.alerts.targets.targets import UnknownTargetError
from metrics_service.rpc import alert_requests
from metrics_service.rpc.streams import (
    REPEAT_S,
    STALL_S,
    TOO_MANY_READERS,
    Context,
    write_frame,
)
from metrics_service.storage.errors import LogUnavailableError, line_of
from metrics_service.storage.silences import MAX_ACTIVE, RequestReusedError, SilenceLimitError
from protos.metrics.v1 import alert_pb2, alert_pb2_grpc
from servicekit.context import current_call
from servicekit.errors import (
    DRAINING,
    REQUEST_ID_REUSED,
    STARTING,
    UNAVAILABLE,
    ApiError,
    ErrorSpec,
    Violation,
    invalid,
)

SERVICE: Final = alert_pb2.DESCRIPTOR.services_by_name["AlertService"].full_name

RETRY_S: Final = 1.0

ALERT_NOT_FOUND: Final = ErrorSpec(
    reason="ALERT_NOT_FOUND",
    code=grpc.StatusCode.NOT_FOUND,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="There is no alert with this id, or it is no longer kept.",
)
SILENCE_NOT_FOUND: Final = ErrorSpec(
    reason="SILENCE_NOT_FOUND",
    code=grpc.StatusCode.NOT_FOUND,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="There is no silence with this id, or it is no longer kept.",
)
SILENCE_LIMIT: Final = ErrorSpec(
    reason="SILENCE_LIMIT",
    code=grpc.StatusCode.FAILED_PRECONDITION,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="As many silences as allowed are active; expire one first.",
)

_LEVELS: Final = {
    "error": alert_pb2.LintFinding.ERROR,
    "warning": alert_pb2.LintFinding.WARNING,
}


class AlertService(alert_pb2_grpc.AlertServiceServicer):
    """The RPCs of metrics.v1.AlertService."""

    def __init__(
        self, alerts: Alerts, *, stall_s: float = STALL_S, repeat_s: float = REPEAT_S
    ) -> None:
        self._alerts = alerts
        self._stall_s = stall_s
        self._repeat_s = repeat_s

    async def ListAlerts(
        self, request: alert_pb2.ListAlertsRequest, context: object
    ) -> alert_pb2.ListAlertsResponse:
        size, after = alert_requests.page(request)
        async with _refusing():
            return await self._alerts.list_alerts(
                include_over=request.include_resolved, size=size, after=after
            )

    async def GetAlert(
        self, request: alert_pb2.GetAlertRequest, context: object
    ) -> alert_pb2.Alert:
        alert_id = alert_requests.resource_id(request)
        async with _refusing():
            alert = await self._alerts.get_alert(alert_id)
        if alert is None:
            raise _missing(ALERT_NOT_FOUND, "alert", alert_id)
        return alert

    # The stubs want an async iterator, but a generator suspended at `yield` cleans up late.
    async def StreamAlerts(  # type: ignore[override]
        self, request: alert_pb2.StreamAlertsRequest, context: Context
    ) -> None:
        """Send each change after a number, then further ones as they are stored."""
        feed = self._alerts.feed
        if not self._alerts.leads:
            raise ApiError(STARTING, "this process does not lead", retry_after_s=RETRY_S)
        number = alert_requests.after(request, feed.newest)
        try:
            feed.join()
        except FullError:
            raise ApiError(TOO_MANY_READERS, "too many streams are open", retry_after_s=5) from None
        except ClosedError:
            raise _draining() from None
        try:
            await self._stream(feed, number, context)
        finally:
            feed.leave()

    async def CreateSilence(
        self, request: alert_pb2.CreateSilenceRequest, context: object
    ) -> alert_pb2.Silence:
        """Store a silence of the caller's identity."""
        duration_us = alert_requests.silence(request, self._alerts.rule_names)
        call = current_call.get()
        async with _refusing():
            return await self._alerts.create_silence(
                request.match,
                duration_us=duration_us,
                comment=request.comment,
                caller="" if call is None else call.caller,
                request_id=request.request_id,
            )

    async def ListSilences(
        self, request: alert_pb2.ListSilencesRequest, context: object
    ) -> alert_pb2.ListSilencesResponse:
        size, after = alert_requests.silences_page(request)
        async with _refusing():
            return await self._alerts.silences.listed(
                include_ended=request.include_ended, size=size, after=after
            )

    async def ExpireSilence(
        self, request: alert_pb2.ExpireSilenceRequest, context: object
    ) -> alert_pb2.Silence:
        silence_id = alert_requests.resource_id(request)
        async with _refusing():
            silence = await self._alerts.expire_silence(silence_id)
        if silence is None:
            raise _missing(SILENCE_NOT_FOUND, "silence", silence_id)
        return silence

    async def LintRules(
        self, request: alert_pb2.LintRulesRequest, context: object
    ) -> alert_pb2.LintRulesResponse:
        """Return what is wrong with a rule file."""
        checked = await self._alerts.lint(alert_requests.rules(request))
        return alert_pb2.LintRulesResponse(
            accepted=checked.accepted,
            findings=[
                alert_pb2.LintFinding(
                    level=_LEVELS[each.level],
                    line=each.line,
                    rule=each.rule,
                    message=each.message,
                )
                for each in checked.findings
            ],
        )

    async def SendTest(
        self, request: alert_pb2.SendTestRequest, context: object
    ) -> alert_pb2.SendTestResponse:
        """Send a test notice; that it was not delivered is an answer too."""
        try:
            delivered, detail = await self._alerts.test_target(request.target)
        except UnknownTargetError as error:
            raise invalid([Violation("target", str(error))]) from None
        return alert_pb2.SendTestResponse(delivered=delivered, detail=detail)

    async def _stream(self, feed: AlertFeed, number: int, context: Context) -> None:
        """Write what follows a number until the reader leaves, stalls or the service stops."""
        stall_s = self._stall_s
        while True:
            try:
                number, frames = await feed.after(number, self._repeat_s)
            except ClosedError:
                raise _draining() from None
            for frame in frames:
                await write_frame(context, frame, stall_s)


@asynccontextmanager
async def _refusing() -> AsyncIterator[None]:
    """Turn what alerting raises into refusals."""
    try:
        yield
    except LogUnavailableError as reason:
        raise ApiError(UNAVAILABLE, line_of(reason), retry_after_s=RETRY_S) from None
    except StandbyError as reason:
        raise ApiError(STARTING, str(reason), retry_after_s=RETRY_S) from None
    except SilenceLimitError:
        limit = {"limit": str(MAX_ACTIVE)}
        raise ApiError(SILENCE_LIMIT, f"{MAX_ACTIVE} silences are active", metadata=limit) from None
    except RequestReusedError:
        message = "the request_id was used before with other content"
        raise ApiError(REQUEST_ID_REUSED, message) from None


def _missing(spec: ErrorSpec, kind: str, name: str) -> ApiError:
    return ApiError(spec, f"{kind} {name} does not exist", resource=(kind, name))


def _draining() -> ApiError:
    return ApiError(DRAINING, "the service is shutting down", retry_after_s=RETRY_S)
