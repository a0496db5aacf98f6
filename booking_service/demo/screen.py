"""Shows a replay to its user: a progress bar on standard error where that is a terminal, plain
lines elsewhere.

Nothing here blocks, and only this module writes to the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from booking_service.demo.replay import Progress
from booking_service.demo.report import Line

_PLAIN_LINES: Final = 10


class Screen:
    """Writes to standard output, and its bars to standard error; tests pass another `console`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._bars = console or Console(highlight=False, stderr=True)

    def say(self, text: str = "") -> None:
        self._console.print(text, markup=False)

    def following(self, total: Progress) -> Following:
        """Return a context that shows the progress of a replay; its `update` may be called at any
        rate.
        """
        return Following(self._console, self._bars, total)

    def show(self, lines: Sequence[Line]) -> None:
        """Print the comparison, and in one sentence whether all figures are equal."""
        table = Table(title="Replay", title_justify="left")
        table.add_column("")
        table.add_column("from the file", justify="right")
        table.add_column("metrics_service", justify="right")
        table.add_column("equal")
        for line in lines:
            table.add_row(line.name, line.expected, line.shown, "yes" if line.equal else "NO")
        table.caption = "bookings by room type: confirmed / of these cancelled"
        table.caption_justify = "left"
        self._console.print(table)
        unequal = [line.name for line in lines if not line.equal]
        self.say(f"NOT equal: {', '.join(unequal)}" if unequal else "All figures are equal.")


class Following:
    """The progress of one replay on the screen."""

    def __init__(self, console: Console, bars: Console, progress: Progress) -> None:
        self._console = console
        self._bars = bars
        self._shown = 0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days"),
            TimeElapsedColumn(),
            console=bars,
            # Without anything left to do, a bar of 0 of 0 would say nothing.
            disable=not bars.is_terminal or not progress.days,
        )
        self._task = self._bar.add_task(_describe(progress), total=progress.days)

    def __enter__(self) -> Following:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.days_done, description=_describe(progress))
        if self._bars.is_terminal or not progress.days:
            return
        part = progress.days_done * _PLAIN_LINES // progress.days
        if part > self._shown:
            self._shown = part
            self._console.print(
                f"{_describe(progress)}, {progress.days_done} of {progress.days} days",
                markup=False,
            )


def _describe(progress: Progress) -> str:
    parts = [f"{progress.rows_done:,} of {progress.rows:,} bookings"]
    if progress.cancellations:
        parts.append(f"{progress.cancellations:,} cancelled")
    if refused := len(progress.sold_out_rows) + progress.sold_out_visits:
        parts.append(f"{refused:,} sold out")
    if progress.today:
        parts.insert(0, progress.today.isoformat())
    return ", ".join(parts)
