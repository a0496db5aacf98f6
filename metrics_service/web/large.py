"""Bounds the memory of answers that clients ask for and then read slowly, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.errors import OVERLOADED, ApiError

LARGE_BYTES: Final = 65_536
"""More than this counts as large; less may be in the buffer of each connection anyway."""

MAX_LARGE: Final = 16
RETRY_S: Final = 1.0


class LargeAnswers:
    """Counts the large answers that are not taken yet, and refuses a further one."""

    def __init__(self) -> None:
        self._held = 0

    def answer(self, body: bytes, headers: Mapping[str, str]) -> ASGIApp:
        """Return an answer of JSON, to be sent once. Raises ApiError where MAX_LARGE large ones are
        held.
        """
        whole = Response(body, headers=headers, media_type="application/json")
        if len(body) <= LARGE_BYTES:
            return whole
        if self._held >= MAX_LARGE:
            message = f"{MAX_LARGE} large answers are not taken yet"
            raise ApiError(OVERLOADED, message, retry_after_s=RETRY_S)
        self._held += 1

        async def send_pieces(_scope: Scope, _receive: Receive, send: Send) -> None:
            # Each waits until the client has taken most of those before.
            try:
                start = {"status": whole.status_code, "headers": whole.raw_headers}
                await send({"type": "http.response.start", **start})
                for at in range(0, len(body), LARGE_BYTES):
                    piece = body[at : at + LARGE_BYTES]
                    more = at + LARGE_BYTES < len(body)
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
            finally:
                self._held -= 1

        return send_pieces
