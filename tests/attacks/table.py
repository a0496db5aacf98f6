"""All attacks under load, by row."""

from __future__ import annotations

from tests.attacks.rows import connections, requests, telemetry, work
from tests.attacks.strike import ATTACKS, Attack

# To import them is to register what is in them.
_ROWS = (connections, requests, telemetry, work)


def attacks() -> list[Attack]:
    """Every attack, in the order of the rows; the same order in every process."""
    return sorted(ATTACKS, key=lambda each: (each.row, each.name))
