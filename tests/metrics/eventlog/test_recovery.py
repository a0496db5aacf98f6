"""Recovery: of any log, the state that follows from all records but those that break it."""

from __future__ import annotations

import asyncio
from typing import Literal

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.eventlog.recovery import Quarantine, Recovery
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from tests.metrics.fragile import BREAKS_ANSWERS, BREAKS_APPLY, BREAKS_ROWS, Fragile
from tests.metrics.state.log import NOW, SECOND, Log
from tests.sizes import size

Kind = Literal["good", "tick", "apply", "rows", "answers"]
LOSSES = {"apply": BREAKS_APPLY, "rows": BREAKS_ROWS, "answers": BREAKS_ANSWERS}
PAGE = 4


def log_of(kinds: list[Kind]) -> list[LogRecord]:
    """Return the records of a log; a record of a breaking kind counts a view before it breaks."""
    log = Log()
    for number, kind in enumerate(kinds):
        log.now_us = NOW + number * 7 * SECOND
        if kind == "tick":
            log.jump(log.now_us)
        elif kind == "good":
            log.append(log.view(log.now_us, f"s{number}"), log.refused(log.now_us))
        else:
            log.append(log.view(log.now_us, f"s{number}"), log.loss(LOSSES[kind], 0))
    return log.records


def recovered(records: list[LogRecord], base: int, until: int) -> State:
    """Return the state at `until`, recovered from the rows of the state at `base`."""
    state = Fragile()
    for record in records[:base]:
        state.apply(record)

    async def read(after: int) -> list[LogRecord]:
        return records[after : after + PAGE]

    rows = list(state.dump()) if base else []
    recovery = Recovery(read, Fragile, Quarantine(lambda: 0.0), rows)
    found = asyncio.run(recovery.state_at(until))
    loaded = Fragile.load(recovery.rows)
    assert list(loaded.dump()) == list(found.dump())
    assert list(loaded.journeys.unsaved()) == list(found.journeys.unsaved())
    return found


def everything(state: State) -> list[object]:
    """What is stored of a state and read of it, also what the table of sessions does not have."""
    return [*state.dump(), state.metrics(), *state.journeys.unsaved()]


def expected(
    records: list[LogRecord], kinds: list[Kind], until: int, base: int = 0
) -> list[object]:
    """Return that of the state at `until`, of which the sessions at `base` were saved."""
    state = State()
    for record, kind in list(zip(records, kinds, strict=True))[:until]:
        if base and record.position == base + 1:
            state.journeys.saved()
        if kind in LOSSES:
            state.quarantine(record)
        else:
            state.apply(record)
    return everything(state)


@settings(max_examples=size(60, 1_000), deadline=None)
@given(st.data())
def test_what_remains_is_the_fold_of_all_records_that_break_nothing(data: st.DataObject) -> None:
    kinds: list[Kind] = data.draw(
        st.lists(
            st.sampled_from(["good", "good", "good", "tick", "apply", "rows", "answers"]),
            min_size=1,
            max_size=24,
        )
    )
    records = log_of(kinds)
    until = data.draw(st.integers(1, len(kinds)))
    first = next((at for at, kind in enumerate(kinds[:until]) if kind in LOSSES), until)
    base = data.draw(st.integers(0, min(first, until - 1)))
    state = recovered(records, base, until)
    assert everything(state) == expected(records, kinds, until, base)


def test_a_base_that_cannot_be_written_is_folded_anew() -> None:
    records = log_of(["good", "rows", "good"])
    broken = State()
    for record in records[:2]:
        broken.apply(record)

    async def read(after: int) -> list[LogRecord]:
        return records[after : after + PAGE]

    recovery = Recovery(read, Fragile, Quarantine(lambda: 0.0), list(broken.dump()))
    state = asyncio.run(recovery.state_at(3))
    assert everything(state) == expected(records, ["good", "rows", "good"], 3)


def test_quarantined_batches_are_named_once_a_second_and_the_others_counted() -> None:
    now_s = 0.0
    quarantine = Quarantine(lambda: now_s)
    record = LogRecord(7, NOW, "batch", producer_id="p", epoch=2, seq=3, lane=2)
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            quarantine.name(record, "a count is out of range")
        now_s = 1.0
        quarantine.name(record, "a count is out of range")
    assert [line["unnamed"] for line in lines] == [0, 4]
    assert {key: lines[0][key] for key in ("event", "position", "producer", "seq", "reason")} == {
        "event": "batch_quarantined",
        "position": 7,
        "producer": "p",
        "seq": 3,
        "reason": "a count is out of range",
    }
