"""What the head of the page is told of the process that answers it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.state.fold import State
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.web.status import SINCE_S, Status
from tests.metrics.state.log import HOUR, NOW, SECOND, Log

DAY = 24 * HOUR


@dataclass
class History:
    """The begin of what is kept, and how often it was asked for."""

    since_us: int | None = None
    lost: bool = False
    asked: int = 0

    async def since(self) -> int | None:
        self.asked += 1
        if self.lost:
            raise LogUnavailableError("gone")
        return self.since_us


@dataclass
class FakeLog:
    """A log in some role."""

    leading: bool = True
    standing_by: bool = False
    superseded: bool = False
    history: History = field(default_factory=History)
    time_us: int = NOW

    @property
    def clock(self) -> FakeLog:
        return self

    def now_us(self) -> int:
        return self.time_us


def counted() -> State:
    """A state of one event a second ago."""
    log = Log(NOW - SECOND)
    log.append(log.view(NOW - SECOND))
    return log.state


def of(log: FakeLog, state: State | None, **options: Any) -> Status:
    def read() -> State:
        if state is None:
            raise UnreadableError("it starts")
        return state

    return Status(cast("Any", log), read, "staging", **options)


async def test_a_leader_tells_how_far_its_figures_are_behind() -> None:
    log = FakeLog(history=History(since_us=NOW - DAY))
    told = await of(log, counted())()
    assert told == {
        "revision": 1,
        "as_of": "2027-01-15T07:59:59Z",
        "role": "active",
        "log": "open",
        "lag_s": 1.0,
        "version": importlib.metadata.version("farehold"),
        "environment": "staging",
        "data_since": "2027-01-14T08:00:00Z",
    }
    log.time_us += 90 * SECOND
    assert (await of(log, counted())())["lag_s"] == 91.0
    assert (await of(log, counted(), backfill_only=True)())["lag_s"] is None


@pytest.mark.parametrize(
    ("log", "role", "kept"),
    [
        (FakeLog(leading=False, standing_by=True), "standby", "away"),
        (FakeLog(leading=False, superseded=True), "standby", "away"),
        (FakeLog(leading=False), "active", "away"),
        (FakeLog(), "active", "open"),
    ],
)
async def test_the_role_is_that_at_the_log(log: FakeLog, role: str, kept: str) -> None:
    told = await of(log, None)()
    assert (told["role"], told["log"]) == (role, kept)
    # Without figures nothing is said of them.
    assert (told["revision"], told["as_of"], told["lag_s"]) == (None, None, None)
    # A database that is away is not waited for.
    assert log.history.asked == (1 if log.leading else 0)


async def test_the_begin_of_what_is_kept_is_looked_up_now_and_then() -> None:
    log, now_s = FakeLog(history=History(since_us=NOW)), 0.0
    status = of(log, None, monotonic_s=lambda: now_s)
    for _ in range(3):
        assert (await status())["data_since"] == "2027-01-15T08:00:00Z"
    assert log.history.asked == 1
    now_s, log.history.lost = SINCE_S, True
    assert (await status())["data_since"] == "2027-01-15T08:00:00Z"
    assert log.history.asked == 2
