"""What is stored of the history, as far as this process knows it: of a state, only the hours and
days that have changed are written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metrics_service.state.fold import VERSION, State
from metrics_service.state.history.cells import TABLES, total
from metrics_service.state.history.changes import (
    HOURS_A_DAY,
    HistoryChange,
    Key,
    Once,
    Segment,
)
from metrics_service.state.series.past import DAY_US, HOUR_US

HOURS: Final = ".1h"
"""How the sections of a month's ring end."""

Hours = dict[Key, tuple[bytes, bytes]]
"""The bytes of each hour of a table, and their digest."""


class SavedHistory:
    """The hours from the border on, and the parts of the log whose effect on hours before it is not
    known to be stored.
    """

    def __init__(self) -> None:
        self._digests: dict[Key, bytes] = {}
        # The first day that was not over.
        self._open_day = 0
        # Those of the change that is to be stored.
        self._changed: tuple[dict[Key, bytes], int] = {}, 0
        self._segments: list[Segment] = []
        self._anew: Once | None = None

    def restored(self, state: State, hours: Hours) -> None:
        """Note that a state with these hours was read, and that its history is stored."""
        self._changed = _stored_of(state, hours), _today(state)
        self.stored()

    def repaired(self, *, anew: bool) -> None:
        """Note that the state was replaced by one that is folded again from what is stored; or
        anew, and then what the former fold has left after the border goes.
        """
        self._segments.clear()
        if anew:
            self._anew = Once()

    def change_to(
        self, state: State, hours: Hours, *, replace: bool
    ) -> tuple[HistoryChange, Iterator[None]]:
        """Return the change that makes the history that of a state with these hours, and the work
        that is to be done before it is whole, in short steps.
        """
        known = {} if replace else self._digests
        digests, today = self._changed = _stored_of(state, hours), _today(state)
        changed = [key for key, digest in digests.items() if known.get(key) != digest]
        segment = Segment(state.take_past())
        self._segments.append(segment)
        change = HistoryChange(
            version=VERSION,
            border=state.border,
            replace=replace,
            anew=self._anew,
            hours={key: hours[key][0] for key in changed if TABLES[key[0]].hourly},
            days={},
            segments=[*self._segments],
        )
        first, open_day = state.border.from_us // DAY_US, self._open_day

        def work() -> Iterator[None]:
            yield from segment.add_up()
            # Those with a change, and those that are over since the last one.
            days = {(table, hour // HOURS_A_DAY) for table, hour in changed}
            days |= {
                (table, hour // HOURS_A_DAY)
                for table, hour in hours
                if hour // HOURS_A_DAY >= open_day
            }
            for table, day in sorted(days):
                if first <= day < today:
                    of_day = range(day * HOURS_A_DAY, (day + 1) * HOURS_A_DAY)
                    parts = [hours[table, hour][0] for hour in of_day if (table, hour) in hours]
                    change.days[table, day] = total(table, parts).encode()
                    yield

        return change, work()

    def stored(self) -> None:
        """Note that the change is stored."""
        self._digests, self._open_day = self._changed
        self._segments.clear()
        self._anew = None


def _today(state: State) -> int:
    return state.as_of_us // DAY_US


def _stored_of(state: State, hours: Hours) -> dict[Key, bytes]:
    """Return the digests of the hours from the border up to now."""
    low, high = state.border.from_us // HOUR_US, state.as_of_us // HOUR_US
    return {key: digest for key, (_, digest) in hours.items() if low <= key[1] <= high}
