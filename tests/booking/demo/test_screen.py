"""What the user sees: a bar on a terminal, a few plain lines elsewhere, a verdict in words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from booking_service.demo.replay import Progress
from booking_service.demo.report import Line
from booking_service.demo.screen import Screen


def follow(*, terminal: bool) -> str:
    text = io.StringIO()
    screen = Screen(Console(file=text, force_terminal=terminal, width=120, soft_wrap=True))
    progress = Progress(days=100, rows=1000)
    with screen.following(progress) as following:
        for day in range(1, 101):
            progress.days_done = day
            progress.rows_done = 10 * day
            following.update(progress)
    return text.getvalue()


def test_plain_output_is_a_line_for_each_tenth() -> None:
    lines = follow(terminal=False).splitlines()
    assert len(lines) == 10
    assert lines[0] == "100 of 1,000 bookings, 10 of 100 days"
    assert lines[-1] == "1,000 of 1,000 bookings, 100 of 100 days"


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    # Independent of the terminal that the tests run in.
    monkeypatch.setenv("TERM", "xterm")
    text = follow(terminal=True)
    assert "\x1b[" in text
    assert "100/100" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_left_to_do_is_no_bar(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = io.StringIO()
    screen = Screen(Console(file=text, force_terminal=terminal, width=120))
    progress = Progress(days=0, rows=0)
    with screen.following(progress) as following:
        following.update(progress)
    assert text.getvalue() == ""


def test_verdict_names_what_differs() -> None:
    text = io.StringIO()
    screen = Screen(Console(file=text, width=120, soft_wrap=True))
    screen.show([Line("net", "1", "1", equal=True), Line("gross", "5", "6", equal=False)])
    assert "NOT equal: gross" in text.getvalue()
    assert "All figures are equal." not in text.getvalue()
    screen.show([Line("net", "1", "1", equal=True)])
    assert "All figures are equal." in text.getvalue()
