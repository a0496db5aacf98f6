"""Runs a process from its first line to its exit status.

An error that the operator can correct is one line on standard error, never a traceback.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from uvloop import new_event_loop as new_uvloop

MAX_FILES: Final = 65_536
"""How many open files, such as connections, a process asks for; many systems grant 1,024 at first,
after which nobody could connect, and no database be reached.
"""

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as in a shell."""


class StartError(Exception):
    """The process cannot start; the text is one line for the operator."""

    exit_status = 1


def fail(error: StartError) -> int:
    """Print the error line and return the exit status."""
    print(error, file=sys.stderr)
    return error.exit_status


def run(main: Callable[[asyncio.Event], Awaitable[None]], *, uvloop: bool = True) -> int:
    """Run `main(stop)` on a new event loop and return the exit status.

    SIGTERM and SIGINT set `stop`; `main` then drains and returns. A repeated signal changes
    nothing, since draining is bounded. SIGHUP does the same in a terminal, which was closed; it
    does nothing elsewhere, unless `main` handles it: most files are read again without it.

    The status is 0 for a normal end, and that of the error for a `StartError`: 2 for settings, 1
    for the rest.
    """

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, stop.set if in_terminal() else _nothing)
        await main(stop)

    _raise_file_limit()
    _keep_imports()
    factory = new_uvloop if uvloop else asyncio.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(supervised())
    except StartError as error:
        return fail(error)
    return 0


def in_terminal() -> bool:
    """Return whether a terminal started this process, so that SIGHUP means that it was closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def _nothing() -> None:
    """Go on."""


def _keep_imports() -> None:
    """Leave the modules out of garbage collections: each full one, which a burst of calls causes,
    would walk through all of their objects, in one step of the event loop of 40 ms or more.
    """
    gc.collect()
    gc.freeze()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
