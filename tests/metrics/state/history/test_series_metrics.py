"""The table of series metrics: names, units, and the figures that answers give too."""

from __future__ import annotations

import pytest

from metrics_service.state.fold import State
from metrics_service.state.history.series_metrics import COUNT, METRICS, MONEY, MS, RATIO, Figure
from tests.metrics.state.log import HOUR, MINUTE, NOW, SECOND, Fact, Log

DONE = NOW + MINUTE


def cells(state: State) -> dict[str, object]:
    """The cells of the last hour, by table."""
    tables = state._tables
    tables.queries._settle()
    return {
        "funnel": tables.funnel.window(HOUR),
        "business": tables.business.rings.window(HOUR),
        "errors": tables.errors.rings.window(HOUR),
        "query_totals": tables.queries._total_rings.window(HOUR),
        "queries": tables.queries._operation_rings.window(HOUR),
    }


@pytest.fixture
def log() -> Log:
    log = Log()
    log.append(log.define(1, "bookings.get"))
    log.append(log.view(NOW, "a"), log.view(NOW, "b"))
    log.append(
        log.fact(Fact.STARTED, NOW, "a", booking="1", hold_us=NOW),
        log.fact(Fact.COMPLETED, DONE, "a", booking="1", hold_us=NOW, complete_us=DONE),
        log.fact(Fact.CONFIRMED, DONE, "a", booking="1", confirm_us=DONE, amount=900),
        log.refund(DONE, 100, DONE),
        log.refused(NOW),
        log.tally(NOW, 9, 1),
    )
    log.append(log.queries([5_000, 600_000], rows=1))
    log.jump(DONE + SECOND)
    return log


@pytest.mark.parametrize(
    ("name", "key", "figure"),
    [
        ("funnel_entered", "", Figure(2)),
        ("view_to_start", "", Figure(0.5, 1, 2)),
        ("start_to_complete", "", Figure(1, 1, 1)),
        ("overall_conversion", "", Figure(0.5, 1, 2)),
        ("bookings_confirmed", "", Figure(1)),
        ("revenue_net", "EUR", Figure(800)),
        ("revenue_average", "EUR", Figure(900, 900, 1)),
        ("avg_booking_time", "", Figure(60_000, 60_000, 1)),
        ("form_abandonment", "", Figure(0, 0, 1)),
        ("errors", "", Figure(1)),
        ("error_rate", "", Figure(0.1, 1, 10)),
        ("queries", "", Figure(2)),
        ("slow_queries", "", Figure(1)),
    ],
)
def test_a_figure_of_each_kind(log: Log, name: str, key: str, figure: Figure) -> None:
    metric = METRICS[name]
    assert metric.read(cells(log.state)[metric.table]) == {key: figure}


def test_every_metric_reads_an_empty_cell_and_its_splits_add_up(log: Log) -> None:
    empty, full = cells(State()), cells(log.state)
    for metric in METRICS.values():
        assert all(each.value in (0, None) for each in metric.read(empty[metric.table]).values())
        for split in metric.by.values():
            assert split.read(empty[split.table]) == {}
            parts = [each.value for each in split.read(full[split.table]).values()]
            whole = metric.read(full[metric.table])[""].value
            assert parts
            assert metric.unit != COUNT or sum(filter(None, parts)) == whole


def test_units_and_names() -> None:
    assert {metric.unit for metric in METRICS.values()} == {COUNT, MONEY, MS, RATIO}
    assert all(name == metric.name for name, metric in METRICS.items())
