"""Answers GET /metrics: the format by Accept, gzip by Accept-Encoding, and one answer for all that
ask at the same time.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from servicekit.exposition.exposition import Exposition
from servicekit.exposition.writer import OPENMETRICS, TEXT

PATH: Final = "/metrics"

MAX_AGE_S: Final = 0.1
"""Whoever asks again within this time gets the same answer, so that ten are made a second, however
many ask.
"""

GZIP_LEVEL: Final = 1

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Vary": "Accept, Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}

_VERSIONS: Final = ("", "0.0.1", "1.0.0")
"""Of OpenMetrics that 1.0 is an answer to; the last is ours, and 2.0 is another format."""


class _Form(NamedTuple):
    openmetrics: bool
    zipped: bool


class Scrape:
    """The endpoint of one exposition."""

    def __init__(
        self, exposition: Exposition, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._exposition = exposition
        self._monotonic_s = monotonic_s
        self._made: dict[_Form, tuple[float, asyncio.Future[bytes]]] = {}

    async def __call__(self, request: Request) -> Response:
        """Answer 200 with all metrics."""
        form = _Form(
            accepts_openmetrics(request.headers.get("accept", "")),
            _accepts_gzip(request.headers.get("accept-encoding", "")),
        )
        headers = {**HEADERS, **({"Content-Encoding": "gzip"} if form.zipped else {})}
        media_type = OPENMETRICS if form.openmetrics else TEXT
        # Not cancelled with the request of one who asked: others wait for it too.
        body = await asyncio.shield(self._body(form))
        return Response(body, headers={**headers, "Content-Type": media_type})

    def _body(self, form: _Form) -> asyncio.Future[bytes]:
        now_s = self._monotonic_s()
        made_s, body = self._made.get(form, (0.0, None))
        if body is None or now_s - made_s >= MAX_AGE_S or (body.done() and body.exception()):
            body = asyncio.ensure_future(self._make(form))
            self._made[form] = now_s, body
        return body

    async def _make(self, form: _Form) -> bytes:
        text = await self._exposition.write(openmetrics=form.openmetrics)
        written = text.encode(errors="replace")
        if not form.zipped:
            return written
        # It needs nothing of the event loop.
        return await asyncio.to_thread(gzip.compress, written, GZIP_LEVEL, mtime=0)


def accepts_openmetrics(accept: str) -> bool:
    """Return whether OpenMetrics 1.0 is what an Accept header likes best."""
    openmetrics = text = 0.0
    for name, parameters in _ranges(accept):
        quality = _quality(parameters)
        if name == "application/openmetrics-text":
            if parameters.get("version", "") in _VERSIONS:
                openmetrics = max(openmetrics, quality)
        elif name in ("text/plain", "text/*", "*/*"):
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def _accepts_gzip(accept: str) -> bool:
    return any(name == "gzip" and _quality(parameters) > 0 for name, parameters in _ranges(accept))


def _ranges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for each in header.lower().split(","):
        name, *rest = (part.strip() for part in each.split(";"))
        pairs = (part.partition("=") for part in rest)
        yield name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return min(max(float(parameters.get("q", "1")), 0.0), 1.0)
    except ValueError:
        return 0.0
