"""Row 18: what an attack may leave in the databases, and the bounds that the pair runs with."""

from __future__ import annotations

from typing import Final

from tests.attacks.processes import World
from tests.attacks.strike import Tally

BUDGETS: Final = {
    "METRICS_PRODUCERS_MAX": "30",
    "BOOKING_EARLY_PAYMENTS_MAX_MB": "0.02",
    "BOOKING_SWEEP_INTERVAL_S": "1",
}

# The pair's own producers and open streams come on top of the bound.
_MOST: Final = (
    ("producers", "metrics", "SELECT count(*) FROM producer", 50),
    (
        "bytes of early payment events",
        "booking",
        "SELECT coalesce(sum(pg_column_size(e)), 0) FROM early_payment_events AS e",
        24_000,
    ),
)


def check_stored(world: World, tally: Tally) -> None:
    """Check that no table has more than its bound."""
    for what, database, query, most in _MOST:
        found = int(world.server.psql(database, query))
        tally.check(found <= most, f"{found} {what} are stored, at most {most}")
