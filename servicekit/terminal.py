"""Takes the terminal's Ctrl-C for this process alone.

make dies of the Ctrl-C that its recipe has handled; here it does not receive it, and returns the
recipe's own exit status.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Makes this process the terminal's foreground group, and gives the terminal back at the end.

    Without a terminal, or when we are not in its foreground, nothing changes: whoever sends the
    signal then chooses whom to.
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
    # The background group that we are for a moment may not touch the terminal otherwise; and a
    # stopped group of ours would leave make waiting with nobody to continue it.
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
