"""The state of this process in one line of JSON: what the head of the page shows of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.state.fold import State
from metrics_service.state.series.rings import SECOND_US
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.web.encode import Json
from servicekit.clock import wall_us

SINCE_S: Final = 60.0
"""How often the begin of what is kept is looked up."""

PACKAGE: Final = "farehold"


class Status:
    """Tells {revision, as_of, role, log, lag_s, version, environment, data_since}. `state` raises
    UnreadableError where there are no figures.

    `lag_s` is how far the figures are behind the log or, while it is away, behind the time of day;
    null where time is that of the events, as in a database of history alone.
    `data_since` is the begin of the first hour or day of which anything is kept.
    """

    def __init__(
        self,
        event_log: EventLog,
        state: Callable[[], State],
        environment: str,
        monotonic_s: Callable[[], float] = time.monotonic,
        *,
        backfill_only: bool = False,
    ) -> None:
        self._log = event_log
        self._backfill_only = backfill_only
        self._state = state
        self._monotonic_s = monotonic_s
        self._version = _version()
        self._environment = environment
        self._since_us: int | None = None
        self._since_s = -math.inf

    async def __call__(self) -> dict[str, Json]:
        """Return the status now; null for what is not known."""
        await self._look_since()
        try:
            state = self._state()
            revision, as_of_us = state.revision, state.as_of_us
        except UnreadableError:
            revision = as_of_us = 0
        leading, log = self._log.leading, self._log
        now_us = log.clock.now_us() if leading else wall_us()
        timed = as_of_us and not self._backfill_only
        return {
            "revision": revision or None,
            "as_of": _time(as_of_us),
            "role": "standby" if log.standing_by or log.superseded else "active",
            "log": "open" if leading else "away",
            "lag_s": max(0, now_us - as_of_us) / SECOND_US if timed else None,
            "version": self._version,
            "environment": self._environment,
            "data_since": _time(self._since_us),
        }

    async def _look_since(self) -> None:
        # Nothing waits for a database that is away.
        if not self._log.leading or self._monotonic_s() - self._since_s < SINCE_S:
            return
        self._since_s = self._monotonic_s()
        try:
            self._since_us = await self._log.history.since()
        except LogUnavailableError:
            # What was known before still holds.
            return


def _time(time_us: int | None) -> str | None:
    if not time_us:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(time_us)
    return stamp.ToJsonString()


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""
