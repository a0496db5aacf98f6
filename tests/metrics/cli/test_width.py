"""A table is as wide as the terminal: what does not fit is left out by its rank, and named."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from metrics_service.cli.output.cells import count, text, word
from metrics_service.cli.output.compare import compared
from metrics_service.cli.output.draw import drawn
from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Sheet, View

COLUMNS = (
    Column("id"),
    Column("calls", right=True),
    Column("empty", rank=1),
    Column("often", right=True, rank=1),
    Column("seldom", right=True, rank=2),
    Column("said"),
    Column("only_csv", hidden=True),
)
KEY = "0123456789abcdef"
ROW = (
    *(word(KEY), count(1_000), NOTHING, count(2_000_000), count(3_000_000)),
    *(text("so many words that they need some lines of their own"), word("x")),
)


def lines(view: View, width: int) -> list[str]:
    file = io.StringIO()
    Console(width=width, file=file).print(drawn(view, width))
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (200, []),
        (70, ["empty"]),
        (60, ["empty", "seldom"]),
        (45, ["empty", "often", "seldom"]),
    ],
)
def test_what_does_not_fit_is_left_out_by_rank(width: int, gone: list[str]) -> None:
    view = View(None, Sheet(COLUMNS, [ROW]))
    head, _, first, *rest = lines(view, width)
    assert "only csv" not in head
    assert {"id", "calls", "said"} <= set(head.split())
    assert not set(gone) & set(head.split())
    # A key and a figure are whole, since they are copied and compared.
    assert first.split()[:2] == [KEY, "1,000"]
    assert all(len(line) <= width for line in (head, first, *rest))
    left_out = " ".join(" ".join(rest).split())
    assert (f"left out here: {', '.join(gone)}" in left_out) is bool(gone)


def test_a_line_says_all_in_several_where_it_must() -> None:
    words = "2026-11-30 13:00 to 14:00 UTC, compared with 2026-11-30 12:00 to 13:00 UTC"
    view = View(None, Sheet((), ()), (Text(words, no_wrap=True, overflow="ellipsis"),))
    assert " ".join(line.strip() for line in lines(view, 40)) == words


def row(name: str, value: Cell) -> tuple[Cell, ...]:
    return (word(name), value)


def test_another_period_is_beside_a_figure_and_rows_of_it_alone_come_last() -> None:
    columns = (Column("key"), Column("n", right=True, compared=True))
    now = Sheet(columns, [row("a", count(12)), row("b", count(5)), row("c", count(7))])
    before = Sheet(columns, [row("a", count(10)), row("b", count(5)), row("d", count(9))])
    both = compared(now, before)
    assert [each.name for each in both.columns] == ["key", "n", "n_before"]
    shown = [(each[0].shown, each[1].shown, each[2].value) for each in both.rows]
    assert shown == [
        ("a", "12 (+20%)", 10),
        ("b", "5 (=)", 5),
        ("c", "7 (was -)", None),
        ("d", "- (was 9)", 9),
    ]
