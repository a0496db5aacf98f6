"""Takes the terminal's Ctrl-C for this process alone.

make would exit on a Ctrl-C that its recipe has handled. Here it does not receive the signal, and
returns the exit status of the recipe.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Make this process the terminal's foreground group, and give the terminal back at the end.

    Without a terminal, or when this process is not in its foreground, nothing changes.
    """
    group = os.getpgrp()
    try:
        terminal = sys.stdin.fileno()
        foreground = os.tcgetpgrp(terminal) == group
    except (OSError, ValueError):
        foreground = False
    if not foreground or os.getpid() == group:
        yield
        return
    # For a moment this is a background group, which must not touch the terminal otherwise. If it
    # could be stopped, make would wait for ever.
    ignored = (signal.SIGTTOU, signal.SIGTSTP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, group)
        for number, handler in before.items():
            signal.signal(number, handler)
