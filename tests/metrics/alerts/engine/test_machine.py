"""The states of an alert, from its first bad value to its end."""

from __future__ import annotations

from dataclasses import replace

from metrics_service.alerts.engine.machine import ALERTS_DROPPED, MAX_ALERTS, Machine
from metrics_service.alerts.model import Measurement, Rule, Sample
from protos.metrics.v1 import alert_pb2
from tests.metrics.alerts.engine.stepping import (
    BAD,
    BETWEEN,
    GOOD,
    LOW,
    MINUTE_US,
    UNKNOWN,
    Steps,
    word,
)

AT_ONCE = replace(LOW, name="at_once", for_us=0)
KEPT = replace(LOW, name="kept", for_us=0, keep_firing_for_us=5 * MINUTE_US)
OVERFLOW = replace(AT_ONCE, name="alerts_overflow", metric=ALERTS_DROPPED)


def stored(machine: Machine, rule: Rule) -> Machine:
    return Machine.from_proto([rule], machine.to_proto())


def test_a_condition_that_lasts_fires_once_and_is_resolved_once() -> None:
    steps = Steps(LOW)
    assert steps.take(LOW, BAD, BAD, BAD, BAD, BAD) == ["low pending"]
    assert steps.take(LOW, BAD, BAD) == ["low fired"]
    (alert,) = steps.machine.alerts()
    assert alert.state == alert_pb2.ALERT_STATE_FIRING
    assert alert.fire_time.seconds - alert.start_time.seconds == 300
    assert steps.take(LOW, GOOD, GOOD) == ["low resolved"]
    assert steps.machine.alerts() == []


def test_a_condition_that_does_not_last_never_fires() -> None:
    steps = Steps(LOW)
    assert steps.take(LOW, *[BAD, BAD, BAD, GOOD] * 3) == ["low pending", "low cancelled"] * 3
    assert steps.take(LOW, BAD, BETWEEN) == ["low pending", "low cancelled"]


def test_between_the_line_and_that_of_resolving_an_alert_goes_on() -> None:
    steps = Steps(AT_ONCE)
    assert steps.take(AT_ONCE, BAD, BETWEEN, BAD, BETWEEN) == ["at_once fired"]
    assert steps.take(AT_ONCE, GOOD) == ["at_once resolved"]


def test_an_urgent_value_does_not_wait() -> None:
    assert Steps(LOW).take(LOW, BAD, urgent=True) == ["low fired"]


def test_keep_firing_for_bridges_the_gaps_of_one_incident() -> None:
    steps = Steps(KEPT)
    words = steps.take(KEPT, BAD, GOOD, GOOD, GOOD, BAD)
    assert words == ["kept fired", "kept recovering", "kept fired_again"]
    (alert,) = steps.machine.alerts()
    assert steps.take(KEPT, *[GOOD] * 5) == ["kept recovering"]
    assert steps.machine.alerts()[0].id == alert.id
    assert steps.take(KEPT, GOOD) == ["kept resolved"]


def test_the_next_incident_has_another_id_at_the_same_time_too() -> None:
    machine = Machine([AT_ONCE])
    bad = Measurement(AT_ONCE, (Sample((), BAD),))
    good = Measurement(AT_ONCE, (Sample((), GOOD),))
    (first,), _, (second,) = (machine.step([each], MINUTE_US) for each in (bad, good, bad))
    assert first.alert.id != second.alert.id


def test_missing_data_neither_fires_nor_resolves() -> None:
    steps = Steps(LOW)
    assert steps.take(LOW, BAD, *[UNKNOWN] * 20) == ["low pending"]
    assert steps.take(LOW, BAD) == ["low fired"]
    assert steps.take(LOW, *[UNKNOWN] * 20) == []
    assert steps.machine.alerts()[0].state == alert_pb2.ALERT_STATE_FIRING


def test_missing_data_is_an_alert_of_its_own_after_a_while() -> None:
    rule = replace(AT_ONCE, no_data_after_us=60 * MINUTE_US)
    steps = Steps(rule)
    assert steps.take(rule, BAD, *[UNKNOWN] * 60) == ["at_once fired"]
    assert steps.take(rule, *[UNKNOWN] * 9) == ["at_once no_data"]
    states = [alert.state for alert in steps.machine.alerts()]
    assert states == [alert_pb2.ALERT_STATE_FIRING, alert_pb2.ALERT_STATE_NO_DATA]
    assert steps.take(rule, GOOD) == ["at_once resolved", "at_once resolved"]


def test_what_never_had_data_misses_none() -> None:
    rule = replace(LOW, no_data_after_us=MINUTE_US)
    assert Steps(rule).take(rule, *[UNKNOWN] * 10) == []


def test_each_set_of_labels_is_an_alert() -> None:
    steps = Steps(AT_ONCE)
    one, two = Sample((("operation", "a"),), BAD), Sample((("operation", "b"),), BAD)
    assert len(steps.step(Measurement(AT_ONCE, (two, one)))) == 2
    ended = steps.step(Measurement(AT_ONCE, (one,)))
    assert [(word(each), each.alert.labels["operation"]) for each in ended] == [
        ("at_once resolved", "b")
    ]
    assert steps.step(Measurement(AT_ONCE, (), absent=UNKNOWN)) == []


def test_a_changed_rule_ends_its_alerts_and_an_equal_one_does_not() -> None:
    steps = Steps(AT_ONCE)
    steps.take(AT_ONCE, BAD)
    steps.machine.rules = (replace(AT_ONCE, action="Look elsewhere."),)
    assert steps.step() == []
    for rules in ((replace(AT_ONCE, line=0.2),), ()):
        other = Steps(machine=stored(steps.machine, AT_ONCE), minute=steps.minute)
        other.machine.rules = rules
        (event,) = other.step()
        assert (word(event), event.alert.end_reason) == ("at_once resolved", "rule changed")


def test_a_rule_that_changed_while_nothing_ran_ends_its_alerts_too() -> None:
    steps = Steps(AT_ONCE)
    steps.take(AT_ONCE, BAD)
    changed = replace(AT_ONCE, line=0.2)
    again = Steps(machine=stored(steps.machine, changed), minute=steps.minute)
    assert again.take(changed, BAD) == ["at_once resolved", "at_once fired"]


def test_what_was_dumped_goes_on_as_if_nothing_had_happened() -> None:
    rule = replace(LOW, keep_firing_for_us=3 * MINUTE_US, no_data_after_us=2 * MINUTE_US)
    verdicts = [GOOD, *[BAD] * 7, GOOD, GOOD, BAD, *[GOOD] * 5, *[UNKNOWN] * 4, GOOD]
    whole, parts = Steps(rule), Steps(rule)
    expected = whole.take(rule, *verdicts)
    assert expected[-2:] == ["low no_data", "low resolved"]
    words = []
    for verdict in verdicts:
        parts.machine = stored(parts.machine, rule)
        words += parts.take(rule, verdict)
        assert stored(parts.machine, rule).alerts() == parts.machine.alerts()
    assert words == expected
    assert parts.machine.to_proto() == whole.machine.to_proto()


def test_what_does_not_fit_is_counted_and_is_an_alert() -> None:
    many = replace(AT_ONCE, name="many", max_alerts=1_000)
    steps = Steps(many, OVERFLOW)
    samples = [Sample((("n", f"{number:03}"),), BAD) for number in range(MAX_ALERTS + 10)]
    events = steps.step(Measurement(many, samples))
    assert len(events) == MAX_ALERTS == len(steps.machine.alerts())
    assert word(events[-1]) == "alerts_overflow fired"
    assert steps.machine.dropped == 11
    assert "alerts_overflow resolved" in [word(e) for e in steps.step(Measurement(many, ()))]


def test_one_rule_does_not_take_the_places_of_the_others() -> None:
    steps = Steps(AT_ONCE, KEPT)
    samples = [Sample((("n", str(number)),), BAD) for number in range(50)]
    steps.step(Measurement(AT_ONCE, samples))
    assert len(steps.machine.alerts()) == AT_ONCE.max_alerts
    assert steps.take(KEPT, BAD) == ["kept fired"]


def test_a_clock_that_goes_back_delays_but_does_not_break() -> None:
    steps = Steps(LOW)
    steps.take(LOW, BAD)
    steps.minute -= 500
    assert steps.take(LOW, *[BAD] * 6) == ["low fired"]


def inhibited(steps: Steps) -> dict[str, str]:
    return {alert.rule: alert.inhibited_by for alert in steps.machine.alerts()}


def bad(rule: Rule) -> Measurement:
    return Measurement(rule, (Sample((), BAD),))


def test_another_alert_holds_back_notifications() -> None:
    stalled = replace(AT_ONCE, name="stalled")
    low = replace(AT_ONCE, name="low", inhibited_by=("stalled",))
    steps = Steps(stalled, low)
    first, second = steps.step(bad(low), bad(stalled))
    assert (first.change, first.alert.inhibited_by) == ("fired", "stalled")
    assert second.alert.inhibited_by == ""
    released = steps.take(stalled, GOOD)
    assert released == ["stalled resolved", "low released"]
    assert steps.take(stalled, BAD) == ["stalled fired", "low inhibited"]
    assert inhibited(steps) == {"low": "stalled", "stalled": ""}


def test_a_critical_alert_holds_back_the_warning_of_its_rule() -> None:
    critical = replace(AT_ONCE, severity="critical")
    steps = Steps(AT_ONCE, critical)
    events = steps.step(bad(AT_ONCE), bad(critical))
    assert [event.alert.inhibited_by for event in events] == ["at_once (critical)", ""]
