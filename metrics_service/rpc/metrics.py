"""Serves metrics.v1.MetricsService from the folded state; an answer is of exactly one revision."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.fanout import Fanout, Pace
from metrics_service.rpc import series, session_requests, validate
from metrics_service.rpc.session_requests import SessionQuestion
from metrics_service.rpc.streams import REPEAT_S, STALL_S, TOO_MANY_READERS, Context, stream_to
from metrics_service.state.series.rings import HOUR_US, Window, duration_us
from protos.metrics.v1 import journey_pb2, metrics_pb2, metrics_pb2_grpc, series_pb2
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.background import TimeSlice
from servicekit.errors import ApiError, ErrorSpec

SERVICE: Final = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name

MAX_WINDOWS: Final = 16
"""Different windows of all streams: each is computed for itself at a tick."""

FRESH_S: Final = 0.1
"""How old a part of an answer of the same revision may be, such as the ages in it."""

RECOVERING: Final = ErrorSpec(
    reason="RECOVERING",
    code=grpc.StatusCode.UNAVAILABLE,
    kind="internal",
    counts_as_error=True,
    retryable=True,
    summary="A record broke the figures; they are folded again without it.",
)

S = TypeVar("S")
Section: TypeAlias = metrics_pb2.Section.ValueType

_WITHOUT_WINDOW: Final = frozenset({metrics_pb2.SECTION_QUALITY, metrics_pb2.SECTION_HEALTH})
_FIELDS: Final = {
    number: name.removeprefix("SECTION_").lower() for name, number in metrics_pb2.Section.items()
}


class Answers(series.Charted, Protocol):
    """What is read of the state: a window in microseconds, or None for everything ever folded, and
    how long ago it ended.
    """

    def make(self, window_us: int, ended_us: int) -> Iterator[None]: ...

    def metrics(self, window_us: int | None, ended_us: int) -> metrics_pb2.MetricsSnapshot: ...

    def section(self, name: str, window_us: int | None, ended_us: int) -> Message: ...

    def stamp(
        self, answer: metrics_pb2.MetricsSnapshot, window_us: int | None, ended_us: int
    ) -> object: ...

    def funnel(
        self,
        window_us: int | None,
        ended_us: int,
        request: metrics_pb2.GetFunnelRequest,
    ) -> metrics_pb2.Funnel: ...

    def query_stats(
        self, request: metrics_pb2.GetQueryStatsRequest
    ) -> metrics_pb2.GetQueryStatsResponse: ...

    def errors(self, window_us: int | None, ended_us: int) -> metrics_pb2.ErrorMetrics: ...

    def recent_queries(
        self, request: metrics_pb2.ListRecentQueriesRequest
    ) -> metrics_pb2.ListRecentQueriesResponse: ...

    def slow_queries(
        self, request: metrics_pb2.ListSlowQueriesRequest
    ) -> metrics_pb2.ListSlowQueriesResponse: ...


class SessionAnswers(Protocol):
    """What is read of the table of sessions. Raises ApiError."""

    async def list(self, question: SessionQuestion) -> journey_pb2.ListSessionsResponse: ...

    async def journey(self, session_id: str, booking_id: str) -> journey_pb2.Journey: ...


def readable(state: Callable[[], S]) -> Callable[[], S]:
    """Wrap the access to the state, which then raises RECOVERING for UnreadableError."""

    def read() -> S:
        try:
            return state()
        except UnreadableError as reason:
            raise ApiError(RECOVERING, str(reason), retry_after_s=1.0) from None

    return read


class Question(NamedTuple):
    """What a reader of StreamMetrics asks: a window, and the sections it wants."""

    window: Window
    sections: frozenset[Section]


def snapshots(
    state: Callable[[], Answers], health: Callable[[], DatabaseHealth]
) -> Fanout[Question]:
    """Create the fan-out of StreamMetrics."""
    parts = _Parts(state, health)

    def encode(questions: Collection[Question]) -> Iterator[dict[Question, bytes]]:
        """Answer the questions of one window in each step; the sections that no window changes are
        encoded again only for another revision, or when they are FRESH_S old.
        """
        for window in {question.window for question in questions}:
            parts.begin()
            asked = [each for each in questions if each.window == window]
            yield {each: parts.join(each) for each in asked}

    return Fanout(encode)


class _Parts:
    """The encoded parts of answers: messages of the same type, one after the other, are one message
    with the fields of all.
    """

    def __init__(self, state: Callable[[], Answers], health: Callable[[], DatabaseHealth]) -> None:
        self._state = state
        self._health = health
        self._revision = -1
        self._until_s = 0.0
        self._parts: dict[tuple[Section, Window], bytes] = {}

    def begin(self) -> None:
        """Forget the parts of another revision than the present one, and those that are
        FRESH_S old.
        """
        revision, now_s = self._state().revision, time.monotonic()
        if self._revision != revision or now_s >= self._until_s:
            self._revision, self._until_s = revision, now_s + FRESH_S
            self._parts.clear()

    def join(self, question: Question) -> bytes:
        """Return the answer to a question, as a StreamMetricsResponse."""
        window, sections = question
        wanted = [(metrics_pb2.SECTION_UNSPECIFIED, window)]
        wanted += [
            (section, Window() if section in _WITHOUT_WINDOW else window)
            for section in sorted(sections)
        ]
        return b"".join(self._part(*each) for each in wanted)

    def _part(self, section: Section, window: Window) -> bytes:
        part = self._parts.get((section, window))
        if part is None:
            part = self._parts[section, window] = self._encode(section, window)
        return part

    def _encode(self, section: Section, window: Window) -> bytes:
        response = metrics_pb2.StreamMetricsResponse()
        if section == metrics_pb2.SECTION_HEALTH:
            response.health.CopyFrom(self._health())
        elif section == metrics_pb2.SECTION_UNSPECIFIED:
            self._state().stamp(response.snapshot, *window)
        else:
            name = _FIELDS[section]
            getattr(response.snapshot, name).CopyFrom(self._state().section(name, *window))
        return response.SerializeToString()


def without_window(request: metrics_pb2.GetFunnelRequest) -> metrics_pb2.GetFunnelRequest:
    """Return what else is asked of a funnel; empty for one that every snapshot has."""
    state = request.state if request.state != request.LIVE else request.STATE_UNSPECIFIED
    return metrics_pb2.GetFunnelRequest(state=state, by=request.by, entry_days=request.entry_days)


async def make_sums(state: Answers, window: Window) -> None:
    """Make the sums that a read of a window needs: right after a start that takes long."""
    if window.window_us is not None:
        await TimeSlice().run(state.make(window.window_us, window.ended_us))


class MetricsService(metrics_pb2_grpc.MetricsServiceServicer):
    """The RPCs of metrics.v1.MetricsService."""

    def __init__(
        self,
        state: Callable[[], Answers],
        sessions: SessionAnswers,
        fanout: Fanout[Question],
        history: series.Stored,
        *,
        stall_s: float = STALL_S,
        repeat_s: float = REPEAT_S,
    ) -> None:
        self._state = state
        self._sessions = sessions
        self._fanout = fanout
        self._history = history
        self._stall_s = stall_s
        self._repeat_s = repeat_s

    async def GetMetrics(
        self, request: metrics_pb2.GetMetricsRequest, context: object
    ) -> metrics_pb2.MetricsSnapshot:
        window = validate.window(request)
        await make_sums(self._state(), window)
        return self._state().metrics(*window)

    async def GetFunnel(
        self, request: metrics_pb2.GetFunnelRequest, context: object
    ) -> metrics_pb2.Funnel:
        window = validate.funnel(request)
        await make_sums(self._state(), window)
        return self._state().funnel(*window, without_window(request))

    async def GetQueryStats(
        self, request: metrics_pb2.GetQueryStatsRequest, context: object
    ) -> metrics_pb2.GetQueryStatsResponse:
        checked = validate.query_stats(request)
        if checked.HasField("window") or checked.group_by == checked.FINGERPRINT:
            window_us = duration_us(checked.window) or HOUR_US
            await make_sums(self._state(), Window(window_us, duration_us(checked.ended)))
        return self._state().query_stats(checked)

    async def GetErrorBreakdown(
        self, request: metrics_pb2.GetErrorBreakdownRequest, context: object
    ) -> metrics_pb2.ErrorMetrics:
        window = validate.window(request)
        await make_sums(self._state(), window)
        return self._state().errors(*window)

    async def ListRecentQueries(
        self, request: metrics_pb2.ListRecentQueriesRequest, context: object
    ) -> metrics_pb2.ListRecentQueriesResponse:
        return self._state().recent_queries(validate.recent_queries(request))

    async def ListSlowQueries(
        self, request: metrics_pb2.ListSlowQueriesRequest, context: object
    ) -> metrics_pb2.ListSlowQueriesResponse:
        return self._state().slow_queries(validate.slow_queries(request))

    async def ListSessions(
        self, request: journey_pb2.ListSessionsRequest, context: object
    ) -> journey_pb2.ListSessionsResponse:
        return await self._sessions.list(session_requests.sessions(request))

    async def GetJourney(
        self, request: journey_pb2.GetJourneyRequest, context: object
    ) -> journey_pb2.Journey:
        return await self._sessions.journey(*session_requests.journey(request))

    async def GetSeries(
        self, request: series_pb2.GetSeriesRequest, context: object
    ) -> series_pb2.GetSeriesResponse:
        return await series.answer(request, self._state, self._history)

    # The stubs want an async iterator, but a generator suspended at `yield` cleans up late.
    async def StreamMetrics(  # type: ignore[override]
        self, request: metrics_pb2.StreamMetricsRequest, context: Context
    ) -> None:
        """Send a snapshot, then the newest one whenever the state has changed."""
        window, interval_s, sections = validate.stream(request)
        self._admit(window)
        await make_sums(self._state(), window)
        await stream_to(
            self._fanout,
            Question(window, sections),
            Pace(interval_s, self._repeat_s),
            context,
            stall_s=self._stall_s,
            # Others came while it waited for its turn.
            admit=lambda: self._admit(window),
        )

    def _admit(self, window: Window) -> None:
        windows = {question.window for question in self._fanout.questions}
        if window not in windows and len(windows) >= MAX_WINDOWS:
            raise ApiError(
                TOO_MANY_READERS, "too many different windows are streamed", retry_after_s=5.0
            )
