"""Answers from the table of sessions: the list of sessions, and the journey of one."""

from __future__ import annotations

from typing import Final

import grpc

from metrics_service.rpc.session_requests import Listed, SessionQuestion
from metrics_service.state.funnel.funnel import STEPS, WINDOW_US
from metrics_service.state.journeys.journeys import NAMES
from metrics_service.storage.errors import BusyError, LogUnavailableError, line_of
from metrics_service.storage.session_reader import (
    Place,
    SessionReader,
    StoredJourney,
    StoredSession,
)
from protos.metrics.v1 import journey_pb2
from servicekit.errors import OVERLOADED, UNAVAILABLE, ApiError, ErrorSpec

RETRY_S: Final = 0.5
BUSY_RETRY_S: Final = 2.0

SESSION_NOT_FOUND: Final = ErrorSpec(
    reason="SESSION_NOT_FOUND",
    code=grpc.StatusCode.NOT_FOUND,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="No session of this id, or with this booking, is in the log that is kept.",
)


class Sessions:
    """Asks the table of sessions; an answer is of the newest checkpoint."""

    def __init__(self, reader: SessionReader) -> None:
        self._reader = reader

    async def list(self, question: SessionQuestion) -> journey_pb2.ListSessionsResponse:
        """Return a page of sessions. Raises ApiError."""
        listed = question.listed
        try:
            page = await self._reader.page(
                lambda head: question.filter(head.as_of_us, WINDOW_US),
                listed.last if listed is not None else None,
                question.page_size + 1,
            )
        except (LogUnavailableError, BusyError) as trouble:
            raise _refusal(trouble) from None
        shown = page.sessions[: question.page_size]
        total = page.total if listed is None else listed.total
        answer = journey_pb2.ListSessionsResponse(
            revision=page.head.revision,
            sessions=[_summary(each, page.head.as_of_us) for each in shown],
            total=total,
        )
        answer.as_of.FromMicroseconds(page.head.as_of_us)
        if len(page.sessions) > len(shown):
            last = Place(shown[-1].entry_us, shown[-1].number)
            answer.next_page_token = question.token(
                Listed(page.filter.low_us, page.filter.high_us, total, last)
            )
        return answer

    async def journey(self, session_id: str, booking_id: str) -> journey_pb2.Journey:
        """Return the journey of a session or a booking. Raises ApiError."""
        try:
            head, found = await self._reader.journey(name=session_id, booking_id=booking_id)
        except (LogUnavailableError, BusyError) as trouble:
            raise _refusal(trouble) from None
        if found is None:
            raise ApiError(
                SESSION_NOT_FOUND,
                "the log that is kept has no event of it up to the newest checkpoint",
            )
        answer = _journey(found, head.as_of_us)
        answer.as_of.FromMicroseconds(head.as_of_us)
        return answer


def _refusal(trouble: LogUnavailableError | BusyError) -> ApiError:
    if isinstance(trouble, BusyError):
        return ApiError(OVERLOADED, line_of(trouble), retry_after_s=BUSY_RETRY_S)
    return ApiError(UNAVAILABLE, line_of(trouble), retry_after_s=RETRY_S)


def _summary(session: StoredSession, now_us: int) -> journey_pb2.SessionSummary:
    answer = journey_pb2.SessionSummary(
        session_id=session.name,
        events=session.events,
        package_id=session.package_id,
        booking_ids=session.booking_ids,
    )
    answer.last_time.FromMicroseconds(session.last_us)
    if session.steps:
        answer.step = STEPS[session.steps - 1]
        answer.entry_time.FromMicroseconds(session.entry_us)
        if session.steps == len(STEPS):
            answer.outcome = journey_pb2.SESSION_OUTCOME_CONVERTED
        elif session.abandoned or session.entry_us < now_us - WINDOW_US:
            answer.outcome = journey_pb2.SESSION_OUTCOME_ABANDONED
        else:
            answer.outcome = journey_pb2.SESSION_OUTCOME_OPEN
    return answer


def _journey(stored: StoredJourney, now_us: int) -> journey_pb2.Journey:
    answer = journey_pb2.Journey(session=_summary(stored.session, now_us))
    before_us: int | None = None
    for event in stored.events:
        each = answer.events.add(
            name=NAMES[event.name],
            package_id=event.package_id,
            booking_id=event.booking_id,
            reason=event.reason,
        )
        each.time.FromMicroseconds(event.time_us)
        if before_us is not None:
            each.since_previous.FromMicroseconds(event.time_us - before_us)
        before_us = event.time_us
    answer.further_events = stored.session.events - len(stored.events)
    return answer
