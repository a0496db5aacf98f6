"""Lets a request pass if its caller may make it, by the same table and identities as an RPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from servicekit.errors import PERMISSION_DENIED, RATE_LIMITED, UNAUTHENTICATED, ApiError
from servicekit.handlers import LineLimit
from servicekit.http.connections import NAMES
from servicekit.identity.gate import Gate

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[Response]]

STATUSES: Final = {
    UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}


class Guard:
    """Asks the gate about each request; the table names a path as `http/api/metrics/bookings`."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lines = LineLimit()

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint: a caller who may not have it gets 401, 403 or 429."""

        async def ask(request: Request) -> Response:
            path = request.url.path
            admission = self._gate.admit(
                f"http/{path}",
                lambda: request.scope.get("state", {}).get(NAMES, []),
                request.headers,
            )
            if admission.refusal is not None:
                self._log(path, admission.identity.name, admission.refusal)
                raise _refused(admission.refusal)
            try:
                return await endpoint(request)
            finally:
                self._gate.leave(admission)

        return ask

    def _log(self, path: str, caller: str, refusal: ApiError) -> None:
        suppressed = self._lines.take()
        if suppressed is not None:
            log.info(
                "http_request_refused",
                path=path,
                caller=caller,
                reason=refusal.spec.reason,
                suppressed=suppressed,
            )


def _refused(refusal: ApiError) -> HTTPException:
    status = STATUSES[refusal.spec]
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return HTTPException(status, headers=headers)
