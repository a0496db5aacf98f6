"""A funnel of one actor, for tests: events in seconds after NOW, in order of arrival."""

from __future__ import annotations

from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.funnel.funnel import FunnelFold
from tests.metrics.state.log import NOW, SECOND

VIEW, START, COMPLETE, CONFIRM, GIVE_UP = range(5)
# The step, and its seconds after NOW.
Events = list[tuple[int, float]]


def funnel_of(events: Events, actor: str = "s") -> FunnelFold:
    """Return a funnel with the events of one actor."""
    fold = FunnelFold()
    fold.advance(NOW, 0)
    send(fold, events, actor)
    return fold


def send(fold: FunnelFold, events: Events, actor: str = "s") -> None:
    for what, seconds in events:
        time_us = NOW + round(seconds * SECOND)
        if what == GIVE_UP:
            fold.abandon(actor, time_us)
        else:
            fold.step(actor, what, time_us)


def parts(cell: FunnelCell) -> tuple[int, int, int, int]:
    """Return (entered, converted, abandoned, open)."""
    assert cell.entered == cell.converted + cell.abandoned + cell.open
    return cell.entered, cell.converted, cell.abandoned, cell.open
