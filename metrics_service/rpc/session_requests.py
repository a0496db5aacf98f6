"""Checks the requests for sessions, and keeps the place of a list in its page token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Final, NamedTuple

from metrics_service.rpc.validate import check_enum, checked_window
from metrics_service.state.funnel.funnel import STEPS
from metrics_service.state.series.rings import span_of
from metrics_service.state.truncate import MAX_ID_BYTES
from metrics_service.storage.session_reader import Filter, Place
from protos.metrics.v1 import journey_pb2
from servicekit.errors import Violation, invalid

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

_EVER: Final = (0, 1 << 62)
_VERSION: Final = 1
# Version, digest of the question, bounds of the window, total, and the last session of the page.
_TOKEN: Final = struct.Struct(">B8s5q")
_OPEN = journey_pb2.SESSION_OUTCOME_OPEN
_CONVERTED = journey_pb2.SESSION_OUTCOME_CONVERTED
_ABANDONED = journey_pb2.SESSION_OUTCOME_ABANDONED


class Listed(NamedTuple):
    """Where a page begins: the window and the number of sessions of the first page, and the last
    session of the page before.
    """

    low_us: int
    high_us: int
    total: int
    last: Place


class SessionQuestion(NamedTuple):
    """What is asked of the list. window_us is None for all times; listed is None for the first
    page.
    """

    window_us: int | None
    ended_us: int
    steps: tuple[int, int]
    abandoned: bool | None
    page_size: int
    listed: Listed | None = None

    def filter(self, now_us: int, conversion_us: int) -> Filter:
        """Return which sessions are meant, at a time of the log."""
        if self.listed is not None:
            low_us, high_us = self.listed.low_us, self.listed.high_us
        elif self.window_us is None:
            low_us, high_us = _EVER
        else:
            low_us, high_us = span_of(now_us, self.window_us, self.ended_us)
        ahead, open_since_us = self.window_us is None, now_us - conversion_us
        return Filter(low_us, high_us, self.steps, self.abandoned, open_since_us, ahead)

    @property
    def digest(self) -> bytes:
        """The same for the pages of one question."""
        question = repr((self.window_us, self.ended_us, self.steps, self.abandoned))
        return hashlib.blake2b(question.encode(), digest_size=8).digest()

    def token(self, listed: Listed) -> str:
        """Return the token of the page that begins there."""
        packed = _TOKEN.pack(_VERSION, self.digest, *listed[:3], *listed.last)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def sessions(request: journey_pb2.ListSessionsRequest) -> SessionQuestion:
    """Return what a request asks for. Raises ApiError."""
    bad: list[Violation] = []
    window_us, ended_us = checked_window(request, bad)
    steps, abandoned = _chosen(request, bad)
    if request.page_size < 0:
        bad.append(Violation("page_size", f"must be 0 or more, not {request.page_size}"))
    size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
    question = SessionQuestion(window_us, ended_us, steps, abandoned, size)
    if request.page_token and not bad:
        question = question._replace(listed=_listed(request.page_token, question))
        if question.listed is None:
            text = "must be the next_page_token of an answer to the same question"
            bad.append(Violation("page_token", text))
    if bad:
        raise invalid(bad)
    return question


def journey(request: journey_pb2.GetJourneyRequest) -> tuple[str, str]:
    """Return the session and the booking that are asked for, one of them empty. Raises ApiError."""
    field = request.WhichOneof("of") or "session_id"
    text: str = getattr(request, field)
    if not text or len(text.encode()) > MAX_ID_BYTES or "\0" in text:
        raise invalid([Violation(field, f"must have 1 to {MAX_ID_BYTES} bytes, none of them NUL")])
    return request.session_id, request.booking_id


def _chosen(
    request: journey_pb2.ListSessionsRequest, bad: list[Violation]
) -> tuple[tuple[int, int], bool | None]:
    """Return the least and most steps, and whether abandoned."""
    step, outcome = request.step, request.outcome
    least, most = 1, len(STEPS)
    if step and step not in STEPS:
        bad.append(Violation("step", f"must be empty or one of {', '.join(STEPS)}"))
    elif step:
        least = STEPS.index(step) + 1
        most = least if request.furthest else most
    check_enum("outcome", outcome, journey_pb2.SessionOutcome.DESCRIPTOR, bad)
    if outcome == _CONVERTED:
        return (max(least, len(STEPS)), most), None
    if outcome in (_OPEN, _ABANDONED):
        return (least, min(most, len(STEPS) - 1)), outcome == _ABANDONED
    return (least, most), None


def _listed(token: str, question: SessionQuestion) -> Listed | None:
    """Return where a page begins; None for a token of another question, or of none."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, digest, low_us, high_us, total, *last = _TOKEN.unpack(raw)
    except (binascii.Error, ValueError, struct.error):
        return None
    if version != _VERSION or digest != question.digest:
        return None
    return Listed(low_us, high_us, total, Place(*last))
