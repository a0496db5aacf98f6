"""What belongs to the session of a connection: how it ended, and how to take back what is in it."""

from __future__ import annotations

from typing import Final

from metrics_service.client import statements
from metrics_service.client.record import Outcome
from metrics_service.client.tracked.tracker import Timing, Tracker

# Prepared statements of asyncpg's own are not from_sql. A seed cannot be taken back, but replaced.
RESET_MORE: Final = """
RESET SESSION AUTHORIZATION;
RESET ROLE;
DISCARD TEMP;
SELECT pg_catalog.setseed(pg_catalog.date_part('microseconds', clock_timestamp()) / 60000000);
DO $$
DECLARE prepared text;
BEGIN
    FOR prepared IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
        EXECUTE pg_catalog.format('DEALLOCATE %I', prepared);
    END LOOP;
END $$;
"""


class Session:
    """What has to be known when a connection ends, without the connection."""

    __slots__ = ("busy", "orderly", "tracker")

    def __init__(self) -> None:
        self.tracker: Tracker | None = None
        self.busy = 0
        self.orderly = False

    def ended(self, _: object) -> None:
        """Count a connection that neither side closed in order. A query that it took with it makes
        its own record.
        """
        tracker = self.tracker
        if tracker is None or self.orderly:
            return
        tracker.connections_lost += 1
        if not self.busy:
            lost = statements.CONNECTION_LOST.definition
            tracker.emit(
                lost, tracker.now_us(), Timing(), Outcome.CONNECTION_LOST, None, internal=True
            )
