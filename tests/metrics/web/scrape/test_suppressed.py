"""Alerts that a silence holds or that another inhibits are not passed on to Alertmanager."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from metrics_service.alerts.service import Alerts
from metrics_service.web.scrape import declarations as declared
from metrics_service.web.scrape.process_now import STATES, alerts
from protos.metrics.v1.alert_pb2 import (
    ALERT_SEVERITY_CRITICAL,
    ALERT_STATE_FIRING,
    ALERT_STATE_PENDING,
    ALERT_STATE_RECOVERING,
    Alert,
    AlertState,
)

RULE = ("high_error_rate", "critical")


def states_of(present: list[Alert], silence: str = "") -> set[str]:
    """The states in which the rule is, of alerts that this silence holds."""
    known = SimpleNamespace(
        leads=True,
        present=present,
        evaluator=SimpleNamespace(rules=[RULE], judged_us=0),
        silences=SimpleNamespace(active=1, holding=lambda _: silence),
        targets=SimpleNamespace(counts=dict),
    )
    [family] = [each for each in alerts(cast(Alerts, known)) if each.metric is declared.ALERTS]
    values = {labels[2]: bool(value) for labels, value in family.samples.items()}
    assert set(values) == set(STATES)
    return {state for state, value in values.items() if value}


def alert(state: AlertState.ValueType, inhibited_by: str = "") -> Alert:
    return Alert(
        rule=RULE[0], severity=ALERT_SEVERITY_CRITICAL, state=state, inhibited_by=inhibited_by
    )


@pytest.mark.parametrize("state", [ALERT_STATE_FIRING, ALERT_STATE_RECOVERING])
def test_what_nobody_is_told_of_is_suppressed(state: AlertState.ValueType) -> None:
    name = AlertState.Name(state).removeprefix("ALERT_STATE_").lower()
    assert states_of([alert(state)]) == {name}
    assert states_of([alert(state)], silence="1") == {"suppressed"}
    assert states_of([alert(state, inhibited_by="ingest_stalled")]) == {"suppressed"}
    assert states_of([alert(state), alert(state, inhibited_by="x")]) == {name, "suppressed"}


def test_what_does_not_fire_is_not_suppressed() -> None:
    assert states_of([alert(ALERT_STATE_PENDING)], silence="1") == {"pending"}
