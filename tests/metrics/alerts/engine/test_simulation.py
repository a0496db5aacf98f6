"""A small version of `make simulate-alerts`."""

from __future__ import annotations

import pytest

from tests.bench.alert_weeks import alarms, delay


@pytest.mark.full
def test_the_shipped_rules_are_quiet_while_all_is_well() -> None:
    told = [each for an_hour in (10, 30, 100) for each in alarms(2, an_hour, seed=7)]
    # Half an alarm a week in all six.
    assert len(told) <= 3, told


def test_what_halves_is_found() -> None:
    found = delay("start_to_complete", 100, seed=7, most=300)
    assert found is not None
    # Sooner than a slot matures only where nothing converts at all.
    assert found > 41
