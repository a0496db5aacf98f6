"""A small version of `make simulate-alerts`."""

from __future__ import annotations

import pytest

from tests.bench.alert_weeks import alarms, delay, halved, stopped


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_shipped_rules_are_quiet_while_all_is_well() -> None:
    told = [each for an_hour in (10, 30, 100) for each in alarms(2, an_hour, seed=7)]
    # Half an alarm a week in all six.
    assert len(told) <= 3, told


def test_what_halves_is_found() -> None:
    rule = "start_to_complete"
    found = delay(halved()[rule], rule, 100, seed=7, most=400)
    assert found is not None
    # Not before the first of those who began since have had their time.
    assert found > 41


def test_what_stops_is_found_before_it_has_matured() -> None:
    rule = "start_to_complete"
    found = delay(stopped()[rule], rule, 100, seed=7, most=100)
    assert found is not None
    assert found < 60
