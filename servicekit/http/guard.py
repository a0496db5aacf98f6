"""Lets a request pass if its caller may make it, by the same table and identities as an RPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.errors import ApiError
from servicekit.handlers import LineLimit
from servicekit.http.connections import NAMES
from servicekit.http.refused import RefusedRequest
from servicekit.identity.gate import Gate

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class Guard:
    """Asks the gate about each request; the table names a path as `http/api/metrics/bookings`."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lines = LineLimit()

    def guarded(self, endpoint: Endpoint, entry: str = "") -> Endpoint:
        """Wrap an endpoint: a caller who may not have it gets 401, 403 or 429. Its entry in the
        table is that of its path, unless another one is given, such as that of an RPC.
        """

        async def ask(request: Request) -> ASGIApp:
            path = request.url.path
            admission = self._gate.admit(
                entry or f"http/{path}",
                lambda: request.scope.get("state", {}).get(NAMES, []),
                request.headers,
            )
            if admission.refusal is not None:
                self._log(path, admission.identity.name, admission.refusal)
                raise RefusedRequest(admission.refusal)
            try:
                answer = await endpoint(request)
            except BaseException:
                self._gate.leave(admission)
                raise

            async def send_answer(scope: Scope, receive: Receive, send: Send) -> None:
                try:
                    await answer(scope, receive, send)
                finally:
                    self._gate.leave(admission)

            return send_answer

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
