"""Hours around a deployment as a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from metrics_service.alerts.deployments.hours import (
    MATURE_US,
    SPAN_US,
    Fired,
    Hour,
    Watch,
    hour_of,
)
from metrics_service.measure.sketch import Sketch
from metrics_service.state.series.rings import HOUR_US
from metrics_service.state.tables import Tables

BEGIN_US: Final = 1_800_000_000_000_000 // HOUR_US * HOUR_US
DEPLOYED_US: Final = BEGIN_US + 17 * 60_000_000
END_US: Final = BEGIN_US + SPAN_US


class Hours(NamedTuple):
    """An hour with its execute times."""

    hour: Hour
    times_us: Sketch


def merged(hours: list[Hours]) -> Sketch:
    whole = Sketch()
    for each in hours:
        whole.merge(each.times_us)
    return whole


def hour(
    number: int,
    *,
    ms: dict[float, int] | None = None,
    slow: int = 0,
    errors: tuple[int, int] = (0, 0),
    actors: tuple[int, int] = (0, 0),
) -> Hours:
    """The hour of a number, from that of the deployment. ms: how many queries took how many ms;
    errors: of how many writes; actors: how many of them converted, and all.
    """
    cells = Tables().hour(0)
    for took_ms, count in (ms or {}).items():
        cells.queries.execute_us.add(took_ms * 1000, count)
    cells.queries.over_500ms = slow
    cells.errors.kinds["booking"], cells.errors.write_rpcs = errors
    cells.funnel.reached[-1], cells.funnel.reached[0] = actors
    return Hours(hour_of(BEGIN_US + number * HOUR_US, cells), cells.queries.execute_us)


def good(number: int) -> Hours:
    """An hour in which all is well."""
    return hour(number, ms={5: 950, 40: 50}, slow=1, errors=(1, 1000), actors=(50, 200))


def watch(
    after: list[Hours] | Callable[[int], Hours],
    *,
    as_of_us: int = END_US + MATURE_US,
    missing: int = 0,
    alerts: list[Fired] | None = None,
    recorded: bool = True,
) -> Watch:
    """All that is judged; by default of 72 hours that are over, and without alerts."""
    hours = after if isinstance(after, list) else [after(number) for number in range(72)]
    before = [good(number) for number in range(-72, 0)]
    return Watch(
        deployed_us=DEPLOYED_US,
        as_of_us=as_of_us,
        after=[each.hour for each in hours],
        before=[each.hour for each in before],
        times_after=merged(hours),
        times_before=merged(before),
        missing=missing,
        alerts=(alerts or []) if recorded else None,
    )
