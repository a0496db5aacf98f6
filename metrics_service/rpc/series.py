"""GetSeries: what is asked, checked, and answered from memory and from the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

from google.protobuf.duration_pb2 import Duration

from metrics_service.rpc.validate import exact_us
from metrics_service.state.fold import VERSION
from metrics_service.state.history.question import DAY_US, KEPT, MAX_POINTS, Question
from metrics_service.state.history.series import (
    MAX_ANSWER_POINTS,
    SeriesBuilder,
    Slot,
    Slots,
    TooManyPointsError,
)
from metrics_service.state.history.series_metrics import METRICS
from metrics_service.state.series.past import Border
from metrics_service.state.series.rings import MINUTE_US
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.history_reader import StoredCell
from protos.metrics.v1 import series_pb2
from servicekit.background import TimeSlice
from servicekit.errors import UNAVAILABLE, ApiError, Violation, invalid

MAX_METRICS: Final = 16
Kept: TypeAlias = tuple[tuple[int, int, str], ...]
RING: Final = series_pb2.SeriesPoint.RING
_SPLIT_KEPT: Final = tuple(kept for kept in KEPT if kept[0] % MINUTE_US == 0)
"""Steps of figures that are split, which are kept by the minute."""

DIMENSIONS: Final = {
    series_pb2.DIMENSION_UNSPECIFIED: "",
    series_pb2.DIMENSION_PACKAGE: "package",
    series_pb2.DIMENSION_PACKAGE_TYPE: "package_type",
    series_pb2.DIMENSION_LOCATION: "location",
    series_pb2.DIMENSION_VENDOR: "vendor",
}


class Charted(Protocol):
    """What is read of the state."""

    as_of_us: int

    @property
    def revision(self) -> int: ...

    @property
    def border(self) -> Border: ...

    def prepare(self) -> Iterator[None]: ...

    def slots(self, table: str, step_us: int, low_us: int, high_us: int) -> dict[int, bytes]: ...


class Stored(Protocol):
    """What is read of the history: the hours or days of a table that begin in [low_us, high_us).
    Raises LogUnavailableError.
    """

    async def hours(self, table: str, low_us: int, high_us: int) -> list[StoredCell]: ...

    async def days(self, table: str, low_us: int, high_us: int) -> list[StoredCell]: ...


def checked(request: series_pb2.GetSeriesRequest) -> Question:
    """Return the question. Raises ApiError that names every field, and the choices."""
    bad: list[Violation] = []
    names = list(request.metrics)
    unknown = [name for name in names[:MAX_METRICS] if name not in METRICS]
    if not 1 <= len(names) <= MAX_METRICS or len(set(names)) != len(names):
        bad.append(Violation("metrics", f"must be 1 to {MAX_METRICS} metrics, each once"))
    elif unknown:
        bad.append(Violation("metrics", f"must be of: {', '.join(METRICS)}"))
    metrics = [METRICS[name] for name in names[:MAX_METRICS] if name in METRICS]
    by = DIMENSIONS.get(request.by, "?")
    kept: Kept = KEPT
    if by and any(by not in metric.by for metric in metrics):
        splits = {each for metric in METRICS.values() for each in metric.by}
        named = [
            f"by {each.upper()}: {', '.join(name for name in METRICS if each in METRICS[name].by)}"
            for each in DIMENSIONS.values()
            if each in splits
        ]
        bad.append(Violation("by", f"these metrics are split, {'; '.join(named)}"))
    elif by:
        kept = _SPLIT_KEPT
    step_us, limit_us = _step(request.step, kept, bad)
    window_us = _whole(request.window, "window", step_us, bad)
    ended_us = _whole(request.ended, "ended", step_us, bad)
    if not bad and not step_us <= window_us <= MAX_POINTS * step_us:
        bad.append(Violation("window", f"must be 1 to {MAX_POINTS} steps"))
    if not bad and window_us + ended_us > limit_us:
        field = "window" if window_us > limit_us else "ended"
        bad.append(Violation(field, f"is not kept; steps are {_steps(kept)}"))
    if bad:
        raise invalid(bad)
    return Question(tuple(metrics), by, window_us, ended_us, step_us)


def _steps(kept: Kept) -> str:
    of_split = ", where figures are split" if kept is _SPLIT_KEPT else ""
    return f"one of {', '.join(text for *_, text in kept)}, or a multiple{of_split}"


def _step(step: Duration, kept: Kept, bad: list[Violation]) -> tuple[int, int]:
    """Return the step, and for how long such steps are kept."""
    step_us = exact_us(step) or 0
    for unit_us, limit_us, _ in kept:
        if 0 < step_us <= limit_us and step_us % unit_us == 0:
            return step_us, limit_us
    bad.append(Violation("step", f"must be {_steps(kept)}"))
    return kept[-1][0], kept[0][1]


def _whole(duration: Duration, field: str, step_us: int, bad: list[Violation]) -> int:
    found_us = exact_us(duration)
    least_us = step_us if field == "window" else 0
    if found_us is None or found_us % step_us or found_us < least_us:
        bad.append(Violation(field, "must be a whole number of steps"))
        return least_us
    return found_us


async def answer(
    request: series_pb2.GetSeriesRequest, state: Callable[[], Charted], history: Stored
) -> series_pb2.GetSeriesResponse:
    """Return the series, those of the state all of one revision. Raises ApiError."""
    question = checked(request)
    await TimeSlice().run(state().prepare())
    now = state()
    low_us, high_us = question.span(now.as_of_us)
    border_us = now.border.from_us
    tables: dict[str, Slots] = {}
    for table in question.reads():
        found = now.slots(table, question.slot_us, max(low_us, border_us), high_us)
        tables[table] = {begin_us: Slot(data, RING) for begin_us, data in found.items()}
    builder = SeriesBuilder(question, now.revision, now.as_of_us)
    if low_us < border_us:
        for table, slots in tables.items():
            slots.update(await _kept(history, table, question, low_us, min(high_us, border_us)))
    try:
        await TimeSlice().run(builder.make(tables))
    except TooManyPointsError:
        bad = f"must be fewer steps, since all series have at most {MAX_ANSWER_POINTS} points"
        raise invalid([Violation("window", bad)]) from None
    return builder.answer


async def _kept(
    history: Stored, table: str, question: Question, low_us: int, high_us: int
) -> Slots:
    """Return the slots before the border: days where the steps are of days, else hours."""
    by_day = question.step_us % DAY_US == 0
    try:
        cells = await (history.days if by_day else history.hours)(table, low_us, high_us)
    except LogUnavailableError:
        raise ApiError(UNAVAILABLE, "the history cannot be read now", retry_after_s=1.0) from None
    source = series_pb2.SeriesPoint.DAY if by_day else series_pb2.SeriesPoint.HOUR
    return {cell.begin_us: Slot(cell.data, source, cell.version != VERSION) for cell in cells}
