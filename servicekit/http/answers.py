"""Answers as JSON, refusals and errors among them; none has the text of an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeAlias

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from servicekit.http.refused import RefusedRequest

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DATA: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of figures: what a browser may do with them."""

log = structlog.get_logger()


def json_answer(
    body: Json, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """Return an answer with the headers of figures, and these."""
    return JSONResponse(body, status_code=status, headers={**DATA, **(headers or {})})


async def refused(request: Request, error: Exception) -> Response:
    """Answer a refusal, an unknown path and an unknown method, all in one form."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    headers = error.headers if isinstance(error, HTTPException) else None
    body: dict[str, Json] = {"error": HTTPStatus(status).phrase, "path": request.url.path}
    if isinstance(error, RefusedRequest):
        refusal = error.refusal
        body["reason"] = refusal.spec.reason
        body["description"] = refusal.message
        body["fields"] = [
            {"field": bad.field, "description": bad.description} for bad in refusal.violations
        ]
    return json_answer(body, status, dict(headers or {}))


async def failed(request: Request, error: Exception) -> Response:
    """Answer an unforeseen error; its text stays in the log."""
    log.error("http_request_failed", path=request.url.path, exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return json_answer({"error": status.phrase, "path": request.url.path}, status)
