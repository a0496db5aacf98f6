"""Whatever the texts and numbers of a message are, the view shows them as text and goes on."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.live import Live

from metrics_service.cli import http, service
from metrics_service.cli.frame import render, without_connection
from metrics_service.cli.plain import MAX_TEXT_CHARS, plain
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import SlowQuery, StreamMetricsResponse
from tests.metrics.cli.hostile import HOSTILE_TEXTS, fill

STYLE = re.compile(r"\x1b\[[0-9;]*m")
HEIGHT = 24


def drawn(view: RenderableType, width: int, **options: Any) -> str:
    file = io.StringIO()
    Console(width=width, height=HEIGHT, file=file, **options).print(view)
    return file.getvalue()


# The narrow and the wide view take the whole file three times as long.
@pytest.mark.parametrize(
    "width",
    [pytest.param(40, marks=pytest.mark.full), 80, pytest.param(120, marks=pytest.mark.full)],
)
@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_no_text_or_number_controls_or_ends_the_view(text: str, width: int) -> None:
    for turn in range(3):
        response, slowest = StreamMetricsResponse(), SlowQuery()
        assert fill(response, text, turn) + fill(slowest, text, turn) > 100
        slowest.running = bool(turn % 2)
        if turn == 2:
            slowest.look.ClearField("blockers")
        view = without_connection(render(response, slowest), text)
        bare = drawn(view, width)
        assert [each for each in bare if not each.isprintable() and each != "\n"] == []
        coloured = drawn(view, width, force_terminal=True, color_system="truecolor")
        assert STYLE.sub("", coloured) == bare
        # Measured as a terminal does: some characters take two columns.
        assert all(
            Console().render_str(each, markup=False).cell_len <= width for each in bare.splitlines()
        )


@pytest.mark.parametrize("text", ["[/]", "[red]x[/]", "[bold"])
def test_markup_is_shown_as_it_is(text: str) -> None:
    response, slowest = StreamMetricsResponse(), SlowQuery()
    fill(response, text, 0)
    fill(slowest, text, 0)
    bare = drawn(render(response, slowest), 200)
    # Reasons of health, of errors, steps, currencies, packages, and the query.
    assert bare.count(text) > 40


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bookings.confirm", "bookings.confirm"),
        ("a\r\nb\t c", "a b c"),
        ("\x1b[31m\x07", r"\x1b[31m\x07"),
        ("\u202eabc", r"\u202eabc"),
        ("café", "café"),
        ("cafe\u0301", "café"),
        ("a\u0336", r"a\u0336"),
        ("x" * 1000, "x" * (MAX_TEXT_CHARS - 1) + "…"),
    ],
)
def test_a_plain_text_is_what_it_looks_like(text: str, shown: str) -> None:
    assert plain(text) == shown


def busy_pair() -> StreamMetricsResponse:
    """A message of a service with trouble in all its parts."""
    response = StreamMetricsResponse()
    response.health.status = DatabaseHealth.UNHEALTHY
    for number in range(9):
        response.health.reasons.add(instance=f"booking-{number}", message="no answer " * 30)
        response.snapshot.errors.breakdown.add(reason=f"REASON_{number}", kind="internal", count=3)
        response.snapshot.funnel.steps.add(name=f"step-{number}", actors=1000)
        response.snapshot.business.revenue.add(currency="EUR", exponent=2, gross_minor=10**12)
        response.snapshot.business.packages.add(package_id="0123456789", confirmed=10**6)
    response.snapshot.errors.last_5_minutes = 50
    return response


def test_at_80_by_24_the_lost_connection_health_and_errors_are_on_top() -> None:
    file = io.StringIO()
    console = Console(width=80, height=HEIGHT, file=file, force_terminal=True, color_system=None)
    slowest = SlowQuery(running=True)
    slowest.query.operation = "bookings.confirm"
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        file.truncate(0)
        file.seek(0)
        live.update(
            without_connection(render(busy_pair(), slowest), "connection lost (unavailable)"),
            refresh=True,
        )
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).splitlines()
    lines = [each.strip() for each in lines if each.strip("\r")]
    assert len(lines) <= HEIGHT
    assert lines[0] == "connection lost (unavailable)"
    assert lines[1].startswith("Farehold   database unhealthy   as of")
    for number in range(5):
        assert lines[2 + number].startswith(f"booking-{number}: no answer")
        assert lines[2 + number].endswith("…")
    assert lines[7] == "and 4 more"
    assert lines[8] == "errors  50 in 5 minutes, rate -"
    assert lines[9] == "running bookings.confirm 0.0 ms"
    assert lines[10].startswith("queries 0 in all")
    assert lines[12] == "Refusals and errors"
    assert [f"REASON_{number}" for number in range(5)] == [each.split()[0] for each in lines[15:20]]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_a_busy_pair_wraps(width: int) -> None:
    lines = drawn(render(busy_pair()), width).splitlines()
    assert sum("gross" in each for each in lines) == 1
    assert sum("10,000,000,000.00" in each for each in lines) == 9
    assert sum("no answer" in each for each in lines) == 5
    assert sum("entered 0 = converted" in each for each in lines) == 1


class Answer:
    """What the service answers over HTTP."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""

    def read(self, _: int) -> bytes:
        return self._body

    def open(self, *_: object, **__: object) -> Answer:
        return self


@pytest.mark.parametrize(
    "body",
    [
        *(json.dumps({text: [text]}, ensure_ascii=False).encode() for text in HOSTILE_TEXTS),
        b'"\\ud800"',
        b"\x1b[2J",
        b"[" * 100_000,
    ],
    ids=range(len(HOSTILE_TEXTS) + 3),
)
def test_json_is_printed_without_a_control_character(
    body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "build_opener", lambda *_: Answer(body))
    service.show("127.0.0.1", 1, "/")
    sys.stdout.flush()
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert [each for each in text if not each.isprintable() and each != "\n"] == []
