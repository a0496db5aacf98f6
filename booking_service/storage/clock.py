"""The time that bookings are dated by: the database's, so that all processes share one clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup
from servicekit.clock import BELIEVED_AFTER_S, MAX_SKEW_US, MAX_STEP_US, SteadyTime, wall_us

_CLOCK: Final = QueryGroup("clock")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

log = structlog.get_logger()


class Clock(Protocol):
    """Returns the current time; injected, so that tests and replays can set it."""

    async def now(self, connection: Connection) -> datetime:
        """Return the time, aware, in UTC, to the microsecond; to be called after locks are held."""

    async def settle(self, connection: Connection) -> None:
        """Wait, at the start of a process, until the clock can be believed."""


class DatabaseClock:
    """The clock of the database server, without its steps: one that jumps ends no hold and no stay,
    and forgets no answer, unless it has stood for a minute.

    All processes share it, but for a minute after a jump, when each goes on by its monotonic clock.
    """

    def __init__(
        self,
        *,
        own_us: Callable[[], int] = wall_us,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_us = own_us
        self._monotonic_s = monotonic_s
        self._time = SteadyTime(monotonic_s)
        self._begun = False

    async def now(self, connection: Connection) -> datetime:
        value: datetime = await connection.fetchval(_CLOCK.now)
        if not self._begun:
            self._begin(_microseconds(value))
        now_us = self._time.read(_microseconds(value))
        return value if not self._time.step_us else _EPOCH + now_us * _MICROSECOND

    async def settle(self, connection: Connection, *, pause_s: float = 1.0) -> None:
        """Wait while the database's clock is further than MAX_SKEW_US from this machine's, until
        that has stood for BELIEVED_AFTER_S: one of the two may just have jumped.
        """
        since_s, before_us = self._monotonic_s(), 0
        while True:
            now_us = _microseconds(await connection.fetchval(_CLOCK.now))
            skew_us = now_us - self._own_us()
            if abs(skew_us) <= MAX_SKEW_US:
                break
            if abs(skew_us - before_us) > MAX_STEP_US:
                log.warning("clock_doubted", skew_s=skew_us // 1_000_000)
                since_s, before_us = self._monotonic_s(), skew_us
            elif self._monotonic_s() - since_s >= BELIEVED_AFTER_S:
                break
            await asyncio.sleep(pause_s)
        self._begin(now_us)

    def _begin(self, now_us: int) -> None:
        self._begun = True
        self._time.follow(now_us)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


class SetClock:
    """A clock that moves only when it is set."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    async def now(self, connection: Connection) -> datetime:
        del connection
        return self.time

    async def settle(self, connection: Connection) -> None:
        del connection

    def advance(self, by: timedelta) -> None:
        self.time += by
