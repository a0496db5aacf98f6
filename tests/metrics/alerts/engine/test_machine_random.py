"""Whatever verdicts come in whatever order: incidents begin and end once, and a restart between any
two steps changes nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.alerts.engine.machine import Machine
from metrics_service.alerts.model import AlertEvent, Measurement, Sample, Verdict
from tests.metrics.alerts.engine.stepping import LOW, MINUTE_US
from tests.sizes import size

RULES = (
    replace(LOW, no_data_after_us=4 * MINUTE_US),
    replace(LOW, name="kept", for_us=0, keep_firing_for_us=3 * MINUTE_US, inhibited_by=("low",)),
    replace(LOW, name="kept", severity="critical", for_us=2 * MINUTE_US, max_alerts=2),
)
LIFE = re.compile(
    r"(pending )?(cancelled "
    r"|(fired|no_data) ((recovering|fired_again|inhibited|released) )*(resolved )?)?"
)

samples = st.builds(
    Sample,
    st.sampled_from(((), (("n", "1"),), (("n", "2"),), (("n", "3"),))),
    st.sampled_from(Verdict),
    urgent=st.booleans(),
)
measurements = st.builds(
    Measurement,
    st.sampled_from(RULES),
    st.lists(samples, max_size=4, unique_by=lambda sample: sample.labels),
    st.sampled_from(Verdict),
)
steps = st.lists(
    st.tuples(st.integers(0, 6), st.lists(measurements, max_size=3, unique_by=lambda m: m.rule)),
    max_size=40,
)


def run(taken: list[tuple[int, list[Measurement]]], *, restart: bool) -> list[AlertEvent]:
    machine, now_us, events = Machine(RULES), 0, []
    for minutes, found in taken:
        now_us += minutes * MINUTE_US
        events += machine.step(found, now_us)
        if restart:
            machine = Machine.from_proto(RULES, machine.to_proto())
    return events


@settings(max_examples=size(60, 1_000), deadline=None)
@given(steps)
def test_every_incident_has_one_life_over_restarts_too(
    taken: list[tuple[int, list[Measurement]]],
) -> None:
    events = run(taken, restart=False)
    lives: dict[str, str] = defaultdict(str)
    for event in events:
        lives[event.alert.id] += f"{event.change} "
    assert [life for life in lives.values() if not LIFE.fullmatch(life)] == []
    assert run(taken, restart=True) == events
