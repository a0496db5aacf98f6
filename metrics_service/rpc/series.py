"""GetSeries: what is asked, checked, and answered from memory and from the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from google.protobuf.duration_pb2 import Duration

from metrics_service.rpc.validate import exact_us
from metrics_service.state.history.question import KEPT, MAX_POINTS, Question
from metrics_service.state.history.series import (
    MAX_ANSWER_POINTS,
    SeriesBuilder,
    Slot,
    Slots,
    TooManyPointsError,
)
from metrics_service.state.history.series_metrics import METRICS
from protos.metrics.v1 import series_pb2
from servicekit.background import TimeSlice
from servicekit.errors import Violation, invalid

MAX_METRICS: Final = 16
RING: Final = series_pb2.SeriesPoint.RING
_STEPS: Final = f"one of {', '.join(text for *_, text in KEPT)}, or a multiple"

DIMENSIONS: Final = {
    series_pb2.DIMENSION_UNSPECIFIED: "",
    series_pb2.DIMENSION_PACKAGE: "package",
    series_pb2.DIMENSION_PACKAGE_TYPE: "package_type",
    series_pb2.DIMENSION_LOCATION: "location",
    series_pb2.DIMENSION_VENDOR: "vendor",
}


class Charted(Protocol):
    """What is read of the state."""

    @property
    def revision(self) -> int: ...

    @property
    def as_of_us(self) -> int: ...

    def prepare(self) -> Iterator[None]: ...

    def slots(self, table: str, step_us: int, low_us: int, high_us: int) -> dict[int, bytes]: ...


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
    if by and any(by not in metric.by for metric in metrics):
        splits = {each for metric in METRICS.values() for each in metric.by}
        named = [
            f"by {each.upper()}: {', '.join(name for name in METRICS if each in METRICS[name].by)}"
            for each in DIMENSIONS.values()
            if each in splits
        ]
        bad.append(Violation("by", f"these metrics are split, {'; '.join(named)}"))
    step_us, limit_us = _step(request.step, bad)
    window_us = _whole(request.window, "window", step_us, bad)
    ended_us = _whole(request.ended, "ended", step_us, bad)
    if not bad and not step_us <= window_us <= MAX_POINTS * step_us:
        bad.append(Violation("window", f"must be 1 to {MAX_POINTS} steps"))
    if not bad and window_us + ended_us > limit_us:
        field = "window" if window_us > limit_us else "ended"
        bad.append(Violation(field, f"is not kept; steps are {_STEPS}"))
    if bad:
        raise invalid(bad)
    return Question(tuple(metrics), by, window_us, ended_us, step_us)


def _step(step: Duration, bad: list[Violation]) -> tuple[int, int]:
    """Return the step, and for how long such steps are kept."""
    step_us = exact_us(step) or 0
    for unit_us, limit_us, _ in KEPT:
        if 0 < step_us <= limit_us and step_us % unit_us == 0:
            return step_us, limit_us
    bad.append(Violation("step", f"must be {_STEPS}"))
    return KEPT[-1][0], KEPT[0][1]


def _whole(duration: Duration, field: str, step_us: int, bad: list[Violation]) -> int:
    found_us = exact_us(duration)
    least_us = step_us if field == "window" else 0
    if found_us is None or found_us % step_us or found_us < least_us:
        bad.append(Violation(field, "must be a whole number of steps"))
        return least_us
    return found_us


async def answer(
    request: series_pb2.GetSeriesRequest, state: Callable[[], Charted]
) -> series_pb2.GetSeriesResponse:
    """Return the series, all of one revision. Raises ApiError."""
    question = checked(request)
    await TimeSlice().run(state().prepare())
    now = state()
    low_us, high_us = question.span(now.as_of_us)
    tables: dict[str, Slots] = {}
    for table in question.reads():
        found = now.slots(table, question.slot_us, low_us, high_us)
        tables[table] = {begin_us: Slot(data, RING) for begin_us, data in found.items()}
    builder = SeriesBuilder(question, now.revision, now.as_of_us)
    try:
        await TimeSlice().run(builder.make(tables))
    except TooManyPointsError:
        bad = f"must be fewer steps, since all series have at most {MAX_ANSWER_POINTS} points"
        raise invalid([Violation("window", bad)]) from None
    return builder.answer
