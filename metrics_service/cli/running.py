"""Asks once and prints, or again and again until Ctrl-C; the exit status is that of the answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from metrics_service.cli.asking import NotReachableError, Service, asking
from metrics_service.cli.options import Options
from metrics_service.cli.output.draw import drawn
from metrics_service.cli.output.sheet import GOOD, View
from metrics_service.cli.output.write import Form, console, write
from servicekit.start import INTERRUPTED, StartError, run

Question = Callable[[Service], Awaitable[View]]


def show(options: Options, question: Question) -> NoReturn:
    """Ask and print. Raises typer.Exit with the status."""
    statuses = [GOOD]

    async def main(stop: asyncio.Event) -> None:
        async with asking(options.target, options.files) as service:
            if options.repeat_s is None:
                view = await _unless(stop, question(service))
                if view is None:
                    statuses.append(INTERRUPTED)
                else:
                    _print(view, options)
                    statuses.append(view.status)
            else:
                await _repeat(options, options.repeat_s, stop, lambda: question(service), statuses)

    failed = run(main, uvloop=False)
    raise typer.Exit(failed or statuses[-1])


def _print(view: View, options: Options, *, first: bool = True) -> None:
    to = console(no_color=options.no_color)
    write(view, options.form, to, first=first, compact=options.repeat_s is not None)
    for note in view.notes:
        print(note, file=sys.stderr)


class _Screen:
    """Shows answers one after the other: in place on a terminal, as lines elsewhere."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._console = console(no_color=options.no_color)
        self._live: Live | None = None
        self._last: RenderableType = Text("")
        self.shown = 0
        if options.form is Form.TABLE and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> _Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, view: View) -> None:
        if self._live:
            self._last = drawn(view, self._console.width)
            self._live.update(self._last, refresh=True)
        else:
            _print(view, self._options, first=not self.shown)
        self.shown += 1

    def lost(self, error: StartError) -> None:
        """Say that there is no newer answer, above the last one."""
        if self._live:
            why = Text(f"{error}; trying again ...", "bold red")
            self._live.update(Group(why, self._last), refresh=True)
        else:
            print(error, file=sys.stderr)


async def _repeat(
    options: Options,
    every_s: float,
    stop: asyncio.Event,
    question: Callable[[], Awaitable[View]],
    statuses: list[int],
) -> None:
    """Ask until `stop`. Once there was an answer, a service that does not answer is waited for."""
    with _Screen(options) as screen:
        while not stop.is_set():
            try:
                view = await _unless(stop, question())
                if view is not None:
                    screen.show(view)
                    statuses.append(view.status)
            except NotReachableError as error:
                if not screen.shown:
                    raise
                screen.lost(error)
            try:
                async with asyncio.timeout(every_s):
                    await stop.wait()
            except TimeoutError:
                pass


async def _unless(stop: asyncio.Event, asked: Awaitable[View]) -> View | None:
    """Return the answer; None where Ctrl-C came first."""
    answer, stopping = asyncio.ensure_future(asked), asyncio.create_task(stop.wait())
    await asyncio.wait({answer, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if answer.done():
        return answer.result()
    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)
    return None
