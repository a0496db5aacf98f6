"""Time limits on a machine that does other things as well: several tests at once, to begin with."""

from __future__ import annotations

import os


def allowed_s(quiet_s: float) -> float:
    """How long what takes at most `quiet_s` on an idle machine may take now: as it is when one
    process wants a core, and in proportion when several do.
    """
    waiting, _, _ = os.getloadavg()
    return quiet_s * max(1.0, 2 * waiting / (os.cpu_count() or 1))
