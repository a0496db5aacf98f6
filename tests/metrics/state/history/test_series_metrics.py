"""The table of series metrics: names, units, and the figures that answers give too."""

from __future__ import annotations

import pytest

from metrics_service.state.breakdown.cell import COUNTERS, BreakdownCell, LateBreakdownCell
from metrics_service.state.breakdown.packages import Group
from metrics_service.state.fold import State
from metrics_service.state.history.cells import TABLES, total
from metrics_service.state.history.changes import figures
from metrics_service.state.history.figure import Figure, Reading
from metrics_service.state.history.series_metrics import COUNT, METRICS, MONEY, MS, RATIO
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
        "breakdown": tables.breakdown.rings.window(HOUR),
    }


@pytest.fixture
def log() -> Log:
    log = Log()
    log.append(log.define(1, "bookings.get"))
    log.append(log.view(NOW, "a"), log.view(NOW, "b"))
    refused = log.refused(NOW)
    refused.rpc_refused.package_id = "p"
    log.append(
        log.fact(Fact.STARTED, NOW, "a", booking="1", hold_us=NOW),
        log.fact(Fact.COMPLETED, DONE, "a", booking="1", hold_us=NOW, complete_us=DONE),
        log.fact(Fact.CONFIRMED, DONE, "a", booking="1", confirm_us=DONE, amount=900),
        log.refund(DONE, 100, DONE),
        refused,
        log.tally(NOW, 9, 1),
    )
    log.append(log.queries([5_000, 600_000], rows=1))
    log.jump(DONE + SECOND)
    return log


@pytest.mark.parametrize(
    ("name", "key", "figure"),
    [
        ("funnel_entered", "", Figure(2)),
        ("package_views", "", Figure(2)),
        ("view_to_start", "", Figure(0.5, 1, 2)),
        ("start_to_complete", "", Figure(1, 1, 1)),
        ("overall_conversion", "", Figure(0.5, 1, 2)),
        ("overall_conversion_matured", "", Figure(0.5, 1, 2)),
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
            assert Reading(empty[split.table]).figures(split) == {}
            found = Reading(full[split.table]).figures(split)
            whole = metric.read(full[metric.table])[""].value
            # A cancelled or abandoned booking is not in the log.
            assert found or not whole
            if metric.unit == COUNT:
                assert sum(each.value or 0 for each in found.values()) == whole


def test_units_and_names() -> None:
    assert {metric.unit for metric in METRICS.values()} == {COUNT, MONEY, MS, RATIO}
    assert all(name == metric.name for name, metric in METRICS.items())


def test_a_day_with_more_packages_than_it_keeps_takes_corrections_and_sums_to_the_whole() -> None:
    parts = []
    for hour in range(24):
        cell = BreakdownCell()
        for number in range(hour * 60, hour * 60 + 60):
            group = Group(f"p{number}", "hotel", f"place{number % 300}", f"vendor{number % 1_200}")
            cell.add(group, [1] * COUNTERS)
            cell.add_money(group, "EUR", [1, 100, 0])
        parts.append(cell.encode())
    day = total("breakdown", parts)
    correction = LateBreakdownCell()
    for number in (0, 1_439, 5_000):
        group = Group(f"p{number}", "hotel", "place0", f"vendor{number}")
        correction.add(group, [1] * COUNTERS)
        correction.add_money(group, "EUR", [0, 0, 100])
    day.take(correction)
    reading = Reading(TABLES["breakdown"].decode(day.encode()))
    for name, whole in (("package_views", 1_443), ("view_to_start", 1_443)):
        for split in METRICS[name].by.values():
            found = reading.figures(split)
            assert sum(each.denominator or each.value or 0 for each in found.values()) == whole
            assert "other" in found
    of_type = reading.figures(METRICS["bookings_confirmed"].by["package_type"])
    assert sum(each.value or 0 for each in of_type.values()) == 1_440
    rows = [
        row
        for row in figures("breakdown", 1, day)
        if (row.metric, row.dimension) == ("package_views", "vendor")
    ]
    assert len(rows) == TABLES["breakdown"].keys
    assert sum(row.value or 0 for row in rows) == 1_443
