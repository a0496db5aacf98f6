"""Hours around a deployment as a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from metrics_service.alerts.deployments.hours import MATURE_US, SPAN_US, Fired, Hour, Watch
from metrics_service.measure.sketch import Sketch
from metrics_service.state.series.rings import HOUR_US

BEGIN_US: Final = 1_800_000_000_000_000 // HOUR_US * HOUR_US
DEPLOYED_US: Final = BEGIN_US + 17 * 60_000_000
END_US: Final = BEGIN_US + SPAN_US


def hour(
    number: int,
    *,
    ms: dict[float, int] | None = None,
    slow: int = 0,
    errors: tuple[int, int] = (0, 0),
    actors: tuple[int, int] = (0, 0),
) -> Hour:
    """The hour of a number, from that of the deployment. ms: how many queries took how many ms;
    errors: of how many writes; actors: how many of them converted, and all.
    """
    execute_us = Sketch()
    for took_ms, count in (ms or {}).items():
        execute_us.add(took_ms * 1000, count)
    return Hour(BEGIN_US + number * HOUR_US, execute_us, slow, *errors, actors[1], actors[0])


def good(number: int) -> Hour:
    """An hour in which all is well."""
    return hour(number, ms={5: 950, 40: 50}, slow=1, errors=(1, 1000), actors=(50, 200))


def watch(
    after: list[Hour] | Callable[[int], Hour],
    *,
    as_of_us: int = END_US + MATURE_US,
    missing: int = 0,
    alerts: list[Fired] | None = None,
    recorded: bool = True,
) -> Watch:
    """All that is judged; by default of 72 hours that are over, and without alerts."""
    return Watch(
        deployed_us=DEPLOYED_US,
        as_of_us=as_of_us,
        after=after if isinstance(after, list) else [after(number) for number in range(72)],
        before=[good(number) for number in range(-72, 0)],
        missing=missing,
        alerts=(alerts or []) if recorded else None,
    )
