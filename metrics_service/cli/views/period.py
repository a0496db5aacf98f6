"""Asks for a window, and for the one that it is compared with, of one state each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from metrics_service.cli.asking import BadQuestionError, Service
from metrics_service.cli.options import Options
from metrics_service.cli.output.cells import span
from metrics_service.cli.output.compare import compared
from metrics_service.cli.output.sheet import Sheet
from metrics_service.cli.periods import PeriodError, Window, message, periods
from metrics_service.cli.plain import line
from metrics_service.state.series.windows import span_of
from metrics_service.web.encode import Json
from protos.metrics.v1 import metrics_pb2

M = TypeVar("M")

MAX_TRIES: Final = 5
_US: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Answers(Generic[M]):
    """The answer of the window, and of the one before where it was asked for."""

    now: M
    before: M | None
    title: Text
    """Which windows they are of."""

    def sheet(self, make: Callable[[M], Sheet]) -> Sheet:
        """Return the sheet of the answer, with the figures of before where there are some."""
        made = make(self.now)
        return made if self.before is None else compared(made, make(self.before))

    def json(self, of: Callable[[M], Json]) -> Json:
        """Return the answer as JSON; {"now", "before"} where two are compared."""
        if self.before is None:
            return of(self.now)
        return {"now": of(self.now), "before": of(self.before)}


async def answers(
    service: Service, options: Options, question: Callable[[Window], Awaitable[M]]
) -> Answers[M]:
    """Ask for the window of the options. Raises StartError."""
    if options.against is None:
        now = await question(options.window)
        return Answers(now, None, _title(now, options.window, None, options))
    # Any answer has the time of the log; this one every caller may have, and it is small.
    state: Any = await service.ask(
        service.metrics.GetErrorBreakdown,
        metrics_pb2.GetErrorBreakdownRequest(window=message(timedelta(minutes=1))),
    )
    for _ in range(MAX_TRIES):
        as_of_us = state.as_of.ToMicroseconds()
        try:
            window, earlier = periods(as_of_us, options.window, options.against)
        except PeriodError as error:
            raise BadQuestionError(f"--vs {options.against}: {error}") from None
        now, before = await question(window), await question(earlier)
        if _same(as_of_us, window, now) and _same(as_of_us, earlier, before):
            return Answers(now, before, _title(now, window, (before, earlier), options))
        # A step has ended meanwhile: the windows would not be alike.
        state = before
    raise BadQuestionError("the time of the log moves too fast to compare two periods now")


def fill(request: Any, window: Window) -> Any:
    """Set the window of a request, and return it."""
    if window.length is not None:
        request.window.CopyFrom(message(window.length))
        if window.ended:
            request.ended.CopyFrom(message(window.ended))
    elif window.ended:
        raise BadQuestionError("--ended needs a --window")
    return request


def _title(now: Any, window: Window, before: tuple[Any, Window] | None, options: Options) -> Text:
    revision, clock = f"revision {now.revision:,}", options.clock
    if window.length is None:
        return line(f"all time, as of {clock.instant(now.as_of)}, {revision}")
    if before is None and not window.ended:
        return line(f"{span(window.length)} to {clock.instant(now.as_of)}, {revision}")
    words = _named(now, window, options)
    if before is not None:
        words += f", compared with {_named(*before, options)}"
    return line(f"{words}, {revision}")


def _named(answer: Any, window: Window, options: Options) -> str:
    bounds = _bounds(answer.as_of.ToMicroseconds(), window)
    return options.clock.between(*(Timestamp(seconds=us // 1_000_000) for us in bounds))


def _bounds(as_of_us: int, window: Window) -> tuple[int, int]:
    """Return begin and end of a window that is not all time."""
    length = window.length or timedelta(0)
    return span_of(as_of_us, length // _US, window.ended // _US)


def _same(as_of_us: int, window: Window, answer: Any) -> bool:
    return _bounds(as_of_us, window) == _bounds(answer.as_of.ToMicroseconds(), window)
