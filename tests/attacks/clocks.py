"""Row 9: the clock of the metrics' host is set wrong for some seconds, and set right again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.attacks.processes import World
from tests.attacks.strike import Tally
from tests.attacks.trade import Trade, comes_true, metrics_of

WRONG_S: Final = 3.0
BOOKINGS: Final = 10
WINDOW_S: Final = 60

# The sessions of metrics_service read a clock that can be set, instead of that of the host.
_INSTALL: Final = """
CREATE SCHEMA wrong;
CREATE TABLE wrong.clock (ahead interval NOT NULL);
INSERT INTO wrong.clock VALUES ('0');
CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM wrong.clock';
ALTER DATABASE metrics SET search_path = public, wrong, pg_catalog;
"""
_REMOVE: Final = """
ALTER DATABASE metrics RESET search_path;
DROP SCHEMA wrong CASCADE;
"""
_SET: Final = "UPDATE wrong.clock SET ahead = '{}'"
_DAYS: Final = "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'event_log'::regclass"
_WRONG_DAYS: Final = (
    "SELECT count(*) FROM event_log"
    " WHERE received_at NOT BETWEEN now() - interval '1 day' AND now() + interval '1 day'"
)


def stepped(days: int, *, restarts: bool = False) -> Callable[[World], Tally]:
    """The clock is wrong by so many days, and metrics_service may be started meanwhile."""
    return lambda world: _stepped(world, f"{days} days", restarts=restarts)


def _stepped(world: World, by: str, *, restarts: bool) -> Tally:
    tally = Tally()
    psql = partial(world.server.psql, "metrics")
    trade = Trade(world.at.booking, tally)
    psql(_INSTALL)
    try:
        _start_again(world)
        trade.open()
        before = set(psql(_DAYS).split())
        log_lines = len(world.pair.lines("metrics_service"))
        trade.book(BOOKINGS)
        psql(_SET.format(by))
        if restarts:
            _start_again(world)
        trade.book(BOOKINGS)
        time.sleep(WRONG_S)
        psql(_SET.format("0"))
        trade.book(BOOKINGS)
        started = comes_true(lambda: _started(world) >= 3 * BOOKINGS)
        tally.check(started, f"{_started(world)} bookings of {3 * BOOKINGS} in the last minutes")
        lost = before - set(psql(_DAYS).split())
        tally.check(not lost, f"dropped: {lost}")
        wrong = psql(_WRONG_DAYS).strip()
        tally.check(wrong == "0", f"{wrong} records have a time that is wrong by a day")
        said = "".join(world.pair.lines("metrics_service")[log_lines:])
        tally.check("clock_jumped" in said, "the log does not say that the clock has jumped")
    finally:
        psql(_REMOVE)
        _start_again(world)
    return tally


def _started(world: World) -> int:
    return metrics_of(world.at.metrics, 5 * WINDOW_S).funnel.bookings_started


def _start_again(world: World) -> None:
    world.pair.kill("metrics_service")
    world.pair.start("metrics_service")
    world.restarted("metrics_service")
