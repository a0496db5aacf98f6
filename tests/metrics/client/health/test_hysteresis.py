"""A verdict is shown at once or after it has lasted, and never flaps."""

from __future__ import annotations

import pytest

from metrics_service.client.health import (
    Criteria,
    Figures,
    Status,
    Verdict,
    VerdictHysteresis,
    judge,
)
from tests.metrics.client.recording import Clock


class Kept:
    """A keeper beside the clock it runs on."""

    def __init__(self, gap_s: float = 0.0) -> None:
        self.clock = Clock()
        self.keeper = VerdictHysteresis(
            Criteria(gap_s=gap_s), monotonic_ns=self.clock.monotonic_ns, now_us=self.clock.now_us
        )

    def at(self, s: float, status: Status, *, hard: bool = False) -> Status:
        self.clock.s = 1000.0 + s
        self.keeper.update(Verdict(status, (), hard))
        return self.keeper.status


@pytest.fixture
def kept() -> Kept:
    made = Kept()
    assert made.at(0, Status.HEALTHY) is Status.HEALTHY
    return made


def test_a_hard_failure_shows_at_once(kept: Kept) -> None:
    assert kept.at(1, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY
    assert kept.keeper.since_us == 1_001_000_000


def test_criteria_have_to_hold_before_it_turns_worse(kept: Kept) -> None:
    assert kept.at(1, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(10, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED


def test_a_moment_of_bad_figures_shows_nothing(kept: Kept) -> None:
    assert kept.at(1, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(5, Status.HEALTHY) is Status.HEALTHY
    assert kept.at(12, Status.DEGRADED) is Status.HEALTHY


def test_it_turns_better_only_after_thirty_good_seconds(kept: Kept) -> None:
    kept.at(1, Status.UNHEALTHY, hard=True)
    assert kept.at(5, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(20, Status.UNHEALTHY) is Status.UNHEALTHY
    assert kept.at(25, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(54, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(55, Status.HEALTHY) is Status.HEALTHY


def test_it_improves_to_the_worst_of_the_last_thirty_seconds(kept: Kept) -> None:
    kept.at(1, Status.UNHEALTHY, hard=True)
    kept.at(10, Status.DEGRADED)
    assert kept.at(30, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(40, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(59, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(60, Status.HEALTHY) is Status.HEALTHY


def test_after_a_turn_nothing_but_a_hard_failure_shows_for_a_minute() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.DEGRADED)
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED
    # Neither better ...
    assert kept.at(12, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(45, Status.HEALTHY) is Status.DEGRADED
    # ... nor worse, for as long as figures alone say so.
    assert kept.at(46, Status.UNHEALTHY) is Status.DEGRADED
    assert kept.at(70, Status.UNHEALTHY) is Status.DEGRADED
    assert kept.at(71, Status.UNHEALTHY) is Status.UNHEALTHY
    kept.at(72, Status.HEALTHY)
    assert kept.at(130, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(131, Status.HEALTHY) is Status.HEALTHY
    assert kept.at(132, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY


def test_what_is_good_for_a_moment_at_the_end_of_the_minute_does_not_show() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.UNHEALTHY, hard=True)
    kept.at(50, Status.UNHEALTHY, hard=True)
    kept.at(51, Status.HEALTHY)
    assert kept.at(80, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(81, Status.HEALTHY) is Status.HEALTHY


def test_the_first_status_begins_no_minute() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.DEGRADED)
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED


def test_going_stale_and_coming_back_shows_at_once(kept: Kept) -> None:
    assert kept.at(1, Status.STALE) is Status.STALE
    assert kept.at(2, Status.HEALTHY) is Status.HEALTHY


def test_update_says_whether_what_shows_has_changed() -> None:
    keeper = VerdictHysteresis()
    poor = judge(Figures(samples=100, slow=21), None)
    assert keeper.update(poor)
    assert not keeper.update(judge(Figures(samples=200, slow=40), None))
    assert keeper.reasons[0].value == 40
    assert keeper.update(judge(Figures(samples=200, slow=40, at_least_1000ms=40), None))
