"""Every text and every list of every event has a bound: what is longer is cut, or its batch is
quarantined. The fields come from the descriptors, so that one without a bound fails.
"""

from __future__ import annotations

from typing import Final

import pytest

from metrics_service.state.business import MAX_MERGED_PACKAGES, MAX_PACKAGES, BusinessCell
from metrics_service.state.errors import MAX_GROUPS, MAX_MERGED_GROUPS, ErrorCell, ErrorKey
from metrics_service.state.queries.running import MAX_BLOCKERS
from metrics_service.state.record import MAX_EVENTS, MAX_ITEMS
from metrics_service.state.truncate import (
    MAX_CODE_BYTES,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    MAX_PLAN_BYTES,
    MAX_TEXT_BYTES,
)
from tests.metrics.state import extreme
from tests.metrics.state.log import Log

LONG: Final = 8_000
# What its field in the contract says; all others are ids.
STATED: Final = {
    "query_definitions.definitions.text": MAX_TEXT_BYTES,
    "running_query.blockers.query": MAX_TEXT_BYTES,
    "query_plan.plan": MAX_PLAN_BYTES,
}
REFUSED: Final = {
    "booking.booking_id": MAX_ID_BYTES,
    "booking.package_id": MAX_ID_BYTES,
    "booking.currency": MAX_CODE_BYTES,
    "payment.booking_id": MAX_ID_BYTES,
    "payment.package_id": MAX_ID_BYTES,
    "payment.currency": MAX_CODE_BYTES,
    "query_timings.sqlstates": MAX_CODE_BYTES,
    "query_timings.traces.trace_id": MAX_CODE_BYTES,
}
# Lists of which the rest is neither walked nor stored.
CUT: Final = {"running_query.blockers": MAX_BLOCKERS}

TEXTS: Final = [(body, path) for body in extreme.bodies() for path in extreme.texts(body)]
LISTS: Final = [(body, path) for body in extreme.bodies() for path in extreme.lists(body)]


def longest_run(log: Log, character: str) -> int:
    """Return the length of the longest run of a character in the rows of a checkpoint, in bytes."""
    wanted = character.encode()
    longest = 0
    for _, _, data in log.state.dump():
        while wanted * (longest // len(wanted) + 1) in data:
            longest += len(wanted)
    return longest


def quarantined(log: Log) -> int:
    return log.state.metrics().quality.quarantined_batches


@pytest.mark.parametrize("character", ["Q", "\u20ac"])
@pytest.mark.parametrize(("body", "path"), TEXTS, ids=str)
def test_a_long_text_is_cut_or_refused(body: str, path: tuple[str, ...], character: str) -> None:
    log = Log()
    for variant in extreme.variants(body):
        log.append(extreme.with_text(variant, path, character * LONG))
    name = ".".join(path)
    assert quarantined(log) == (len(log.records) if name in REFUSED else 0)
    assert longest_run(log, character) <= STATED.get(name, MAX_ID_BYTES)


@pytest.mark.parametrize("name", REFUSED)
def test_the_longest_text_is_taken_and_one_byte_more_is_refused(name: str) -> None:
    path = tuple(name.split("."))
    [event, *_] = extreme.variants(path[0])
    log = Log()
    log.append(extreme.with_text(event, path, "Q" * REFUSED[name]))
    assert quarantined(log) == 0
    log.append(extreme.with_text(event, path, "Q" * (REFUSED[name] + 1)))
    assert quarantined(log) == 1


@pytest.mark.parametrize(("body", "path"), LISTS, ids=str)
def test_a_long_list_is_refused_before_it_is_walked(body: str, path: tuple[str, ...]) -> None:
    [event, *_] = extreme.variants(body)
    name = ".".join(path)
    log = Log()
    log.append(extreme.with_length(event, path, CUT.get(name, MAX_ITEMS)))
    assert quarantined(log) == 0
    log.append(extreme.with_length(event, path, CUT.get(name, MAX_ITEMS) + 1))
    assert quarantined(log) == (name not in CUT)


@pytest.mark.parametrize("body", extreme.bodies())
def test_a_batch_of_too_many_events_is_refused(body: str) -> None:
    [event, *_] = extreme.variants(body)
    log = Log()
    log.append(*[event] * (MAX_EVENTS + 1))
    assert quarantined(log) == 1
    assert log.state.metrics().quality.quarantined_events == MAX_EVENTS + 1


def test_a_batch_counts_what_is_in_all_of_its_events() -> None:
    log = Log()
    tallies, queries = [log.tally(log.now_us, 1)] * 1_000, log.queries([1] * (MAX_ITEMS - 1_000))
    log.append(*tallies, queries)
    assert quarantined(log) == 0
    log.append(*tallies, queries, log.tally(log.now_us, 1))
    assert quarantined(log) == 1


def test_a_sum_of_slots_is_bounded_and_loses_nothing() -> None:
    packages, errors = BusinessCell(), ErrorCell()
    for slot in range(12):
        business, failures = BusinessCell(), ErrorCell()
        for n in range(MAX_PACKAGES):
            business.of_package(f"{slot} {n}")[0] += 1
        for n in range(MAX_GROUPS):
            failures.add(ErrorKey(f"{slot} {n}", "booking", True, "", ""), 1)
        packages.merge(business)
        errors.merge(failures)
    assert len(packages.packages) == MAX_MERGED_PACKAGES
    assert packages.other_packages == [2 * MAX_PACKAGES, 0]
    assert len(errors.groups) == MAX_MERGED_GROUPS
    assert errors.other == 2 * MAX_GROUPS


def test_a_name_is_bounded_by_its_bytes() -> None:
    log = Log()
    log.append(
        log.tally(log.now_us, 1, rpc="\u20ac" * 66), log.tally(log.now_us, 1, rpc="\u20ac" * 67)
    )
    assert [len(each.rpc.encode()) for each in log.state.metrics().performance.rpcs] == [198]
    assert MAX_NAME_BYTES == 200
