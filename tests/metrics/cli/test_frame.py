"""What the terminal view makes of a message, at the widths terminals have."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from metrics_service.cli.frame import render
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import SlowQuery, StreamMetricsResponse


def shown(response: StreamMetricsResponse, width: int, slowest: SlowQuery | None = None) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(render(response, slowest))
    return console.export_text()


@pytest.fixture
def response() -> StreamMetricsResponse:
    message = StreamMetricsResponse()
    snapshot = message.snapshot
    snapshot.revision = 123
    snapshot.as_of.FromMicroseconds(1_800_000_000_000_000)
    for name, actors in (
        ("view", 10_000),
        ("start", 3_000),
        ("complete", 2_200),
        ("confirm", 2_000),
    ):
        step = snapshot.funnel.steps.add(name=name, actors=actors)
        if name != "view":
            step.from_previous.value = 0.305
            step.from_first.value = 0.2
            step.time_from_previous.p50_ms = 61_000
    revenues = snapshot.business.revenue
    revenues.add(currency="EUR", exponent=2, gross_minor=12_345_678, net_minor=-1_205)
    revenues.add(currency="JPY", exponent=0, gross_minor=1_234)
    revenues.add(currency="KWD", exponent=3, gross_minor=1_005)
    snapshot.performance.queries.execute.p50_ms = 1.25
    snapshot.performance.queries.execute.p95_ms = 2_345
    snapshot.errors.breakdown.add(reason="[red]SOLD_OUT[/]", kind="availability", count=12)
    message.health.status = DatabaseHealth.UNHEALTHY
    message.health.reasons.add(instance="booking-1", message="the database does not answer")
    return message


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_figure_is_readable(response: StreamMetricsResponse, width: int) -> None:
    text = shown(response, width)
    for figure in (
        "2027-01-15 08:00:00 UTC",
        "revision 123",
        "unhealthy",
        "booking-1: the database does not answer",
        "10,000",
        "30.5%",
        "61.0 s",
        "123,456.78",
        "-12.05",
        "1,234",
        "1.005",
        "1.2 ms",
        "2.3 s",
        "[red]SOLD_OUT[/]",
    ):
        assert figure in text
    assert max(map(len, text.splitlines())) <= width


def test_the_figures_of_queries_are_within_a_terminal_of_24_lines(
    response: StreamMetricsResponse,
) -> None:
    response.snapshot.performance.queries.total = 86_129
    lines = shown(response, 80).splitlines()
    assert "  queries 86,129 in all, 0 slow, 0 failed" in [each.rstrip() for each in lines[:6]]
    assert "confirmed 0, cancelled 0" in [each.rstrip() for each in lines[:24]]


def test_an_absent_value_is_not_shown_as_a_number() -> None:
    text = shown(StreamMetricsResponse(), 100)
    assert "unknown" in text
    assert "nan" not in text.lower()
    assert "0.0%" not in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_slowest_query_is_one_line_with_its_blocker(
    response: StreamMetricsResponse, width: int
) -> None:
    slow = SlowQuery(running=True)
    slow.query.operation, slow.query.execute_ms = "bookings.confirm", 2_345
    slow.look.blockers.add(
        pid=4711, application_name="[b]job", state="active", query="UPDATE t\nSET a = $1 " * 20
    )
    (line,) = (each for each in shown(response, width, slow).splitlines() if "4711" in each)
    assert line.startswith("  running bookings.confirm 2.3 s, waits for pid 4711, [b]job, active")
    assert len(line.rstrip()) == width
    slow.running = False
    slow.look.ClearField("blockers")
    slow.look.wait_event_type, slow.look.wait_event = "IO", "DataFileRead"
    assert "  slowest bookings.confirm 2.3 s, IO DataFileRead" in shown(response, width, slow)
    slow.ClearField("look")
    assert "  slowest bookings.confirm 2.3 s\n" in shown(response, width, slow)
