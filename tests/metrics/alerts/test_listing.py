"""Pages of the list of alerts."""

from __future__ import annotations

import pytest

from metrics_service.alerts import listing
from metrics_service.alerts.listing import Key, fit, key_of, parse, sort, token_of
from protos.metrics.v1 import alert_pb2 as a

STATES = (
    a.ALERT_STATE_FIRING,
    a.ALERT_STATE_RECOVERING,
    a.ALERT_STATE_PENDING,
    a.ALERT_STATE_NO_DATA,
    a.ALERT_STATE_RESOLVED,
)


def alert(number: int, state: a.AlertState.ValueType) -> a.Alert:
    made = a.Alert(id=f"{number:032x}", state=state)
    made.start_time.FromMicroseconds(1_800_000_000_000_000 + number // 2)
    if state == a.ALERT_STATE_RESOLVED:
        made.resolve_time.FromMicroseconds(1_800_000_000_000_000 + number)
    return made


def test_pages_of_any_size_have_each_alert_once_and_in_order() -> None:
    alerts = [alert(number, STATES[number % 5]) for number in range(50)]
    whole = sort(alerts, None)
    assert [each.state for each in whole[:20]].count(a.ALERT_STATE_PENDING) == 0
    assert whole[-1].state == a.ALERT_STATE_RESOLVED
    for size in (1, 3, 49):
        found: list[a.Alert] = []
        place: Key | None = None
        while page := fit(sort(alerts, place), size):
            found += page
            place = parse(token_of(key_of(page[-1])))
            assert place is not None
        assert found == whole


@pytest.mark.parametrize(
    "token",
    ["0", "0.1", "3.1.x", f"0.1.{'g' * 32}", f"0.{'1' * 17}.{'0' * 32}", f"0.-1.{'0' * 32}"],
)
def test_a_token_that_was_never_given_is_none(token: str) -> None:
    assert parse(token) is None


def test_a_page_is_bounded_in_bytes_but_never_empty() -> None:
    large = [alert(number, a.ALERT_STATE_FIRING) for number in range(4)]
    for each in large:
        each.summary = "x" * (listing.MAX_PAGE_BYTES // 2 - 1_000)
    assert len(fit(large, 4)) == 2
    large[0].summary = "x" * (2 * listing.MAX_PAGE_BYTES)
    assert len(fit(large, 4)) == 1
