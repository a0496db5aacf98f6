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


class Shown:
    """A verdict beside the clock it runs on."""

    def __init__(self, gap_s: float = 0.0) -> None:
        self.clock = Clock()
        self.verdict = VerdictHysteresis(
            Criteria(gap_s=gap_s), monotonic_ns=self.clock.monotonic_ns, now_us=self.clock.now_us
        )

    def at(self, s: float, status: Status, *, hard: bool = False) -> Status:
        self.clock.s = 1000.0 + s
        self.verdict.update(Verdict(status, (), hard))
        return self.verdict.status


@pytest.fixture
def shown() -> Shown:
    made = Shown()
    assert made.at(0, Status.HEALTHY) is Status.HEALTHY
    return made


def test_a_hard_failure_shows_at_once(shown: Shown) -> None:
    assert shown.at(1, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY
    assert shown.verdict.since_us == 1_001_000_000


def test_a_worse_verdict_must_last_before_it_shows(shown: Shown) -> None:
    assert shown.at(1, Status.DEGRADED) is Status.HEALTHY
    assert shown.at(10, Status.DEGRADED) is Status.HEALTHY
    assert shown.at(11, Status.DEGRADED) is Status.DEGRADED


def test_a_moment_of_bad_figures_does_not_show(shown: Shown) -> None:
    assert shown.at(1, Status.DEGRADED) is Status.HEALTHY
    assert shown.at(5, Status.HEALTHY) is Status.HEALTHY
    assert shown.at(12, Status.DEGRADED) is Status.HEALTHY


def test_the_status_improves_only_after_thirty_good_seconds(shown: Shown) -> None:
    shown.at(1, Status.UNHEALTHY, hard=True)
    assert shown.at(5, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(20, Status.UNHEALTHY) is Status.UNHEALTHY
    assert shown.at(25, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(54, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(55, Status.HEALTHY) is Status.HEALTHY


def test_the_status_improves_to_the_worst_of_the_last_thirty_seconds(shown: Shown) -> None:
    shown.at(1, Status.UNHEALTHY, hard=True)
    shown.at(10, Status.DEGRADED)
    assert shown.at(30, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(40, Status.HEALTHY) is Status.DEGRADED
    assert shown.at(59, Status.HEALTHY) is Status.DEGRADED
    assert shown.at(60, Status.HEALTHY) is Status.HEALTHY


def test_for_a_minute_after_a_change_only_a_hard_failure_shows() -> None:
    shown = Shown(gap_s=60.0)
    shown.at(0, Status.HEALTHY)
    shown.at(1, Status.DEGRADED)
    assert shown.at(11, Status.DEGRADED) is Status.DEGRADED
    # Neither better ...
    assert shown.at(12, Status.HEALTHY) is Status.DEGRADED
    assert shown.at(45, Status.HEALTHY) is Status.DEGRADED
    # ... nor worse, for as long as figures alone say so.
    assert shown.at(46, Status.UNHEALTHY) is Status.DEGRADED
    assert shown.at(70, Status.UNHEALTHY) is Status.DEGRADED
    assert shown.at(71, Status.UNHEALTHY) is Status.UNHEALTHY
    shown.at(72, Status.HEALTHY)
    assert shown.at(130, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(131, Status.HEALTHY) is Status.HEALTHY
    assert shown.at(132, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY


def test_a_good_moment_at_the_end_of_the_minute_does_not_show() -> None:
    shown = Shown(gap_s=60.0)
    shown.at(0, Status.HEALTHY)
    shown.at(1, Status.UNHEALTHY, hard=True)
    shown.at(50, Status.UNHEALTHY, hard=True)
    shown.at(51, Status.HEALTHY)
    assert shown.at(80, Status.HEALTHY) is Status.UNHEALTHY
    assert shown.at(81, Status.HEALTHY) is Status.HEALTHY


def test_the_first_status_does_not_start_the_minute() -> None:
    shown = Shown(gap_s=60.0)
    shown.at(0, Status.HEALTHY)
    shown.at(1, Status.DEGRADED)
    assert shown.at(11, Status.DEGRADED) is Status.DEGRADED


def test_becoming_stale_and_recovering_show_at_once(shown: Shown) -> None:
    assert shown.at(1, Status.STALE) is Status.STALE
    assert shown.at(2, Status.HEALTHY) is Status.HEALTHY


def test_update_returns_whether_the_shown_verdict_has_changed() -> None:
    verdict = VerdictHysteresis()
    poor = judge(Figures(samples=100, slow=21), None)
    assert verdict.update(poor)
    assert not verdict.update(judge(Figures(samples=200, slow=40), None))
    assert verdict.reasons[0].value == 40
    assert verdict.update(judge(Figures(samples=200, slow=40, at_least_1000ms=40), None))
