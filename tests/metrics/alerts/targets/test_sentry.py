"""What Sentry is sent, received by a local endpoint with its envelope protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sentry_sdk

from metrics_service.alerts.targets.monitor import INTERVAL_S, Monitor
from metrics_service.alerts.targets.notice import (
    Change,
    NotAcceptedError,
    Notice,
    Notification,
    notice_id,
)
from metrics_service.alerts.targets.sentry import Sentry
from protos.metrics.v1.alert_pb2 import Alert
from tests.metrics.alerts.targets.incidents import Clock, firing, resolved
from tests.metrics.sentry import Endpoint, listening

FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as state:
        yield state


def of(alert: Alert, change: Change = "fired", ordinal: int = 0) -> Notification:
    over = change == "resolved"
    notice = Notice(alert, change, ordinal, notice_id("sentry", alert.id, ordinal, over=over))
    return Notification(alert.rule, (notice,))


async def test_a_second_incident_is_another_issue_and_a_recovery_is_in_its_own(
    endpoint: Endpoint,
) -> None:
    sentry = Sentry(endpoint.dsn)
    outage, again = (firing(each, "database_unhealthy", host="db1") for each in (FIRST, SECOND))
    for part in (
        of(outage),
        of(outage, "repeated", 1),
        of(resolved(outage), "resolved", 2),
        of(again),
        of(resolved(again), "resolved", 1),
    ):
        assert await sentry.send(part) == "HTTP 200"
    events = [endpoint.next() for _ in range(5)]
    issues = [event["fingerprint"] for event in events]
    assert issues[0] == ["database_unhealthy", "host=db1", FIRST]
    assert issues == [issues[0]] * 3 + [["database_unhealthy", "host=db1", SECOND]] * 2
    assert [event["level"] for event in events] == ["error", "error", "info", "error", "info"]
    assert len({event["event_id"] for event in events}) == 5
    assert set(endpoint.paths) == {"/api/1/envelope/"}
    assert all("sentry_key=key" in key for key in endpoint.keys)


async def test_other_labels_are_another_issue(endpoint: Endpoint) -> None:
    sentry = Sentry(endpoint.dsn)
    for name in ("get", "put"):
        await sentry.send(of(firing(FIRST, "slow_query", operation=name)))
    assert endpoint.next()["fingerprint"] != endpoint.next()["fingerprint"]


async def test_the_event_says_what_why_and_what_to_do(endpoint: Endpoint) -> None:
    alert = firing(FIRST)
    alert.ratio.numerator, alert.ratio.denominator = 3, 40
    await Sentry(endpoint.dsn).send(of(alert))
    event = endpoint.next()
    assert event["event_id"] == notice_id("sentry", FIRST, 0, over=False)
    assert event["message"] == "high_error_rate: 11 errors within 5 min, more than 10"
    assert event["tags"] == {
        "rule": "high_error_rate",
        "severity": "critical",
        "change": "fired",
        "incident": FIRST,
    }
    assert event["contexts"]["alert"] == {
        "value": 11,
        "threshold": 10,
        "unit": "count",
        "ratio": "3 of 40",
        "causes": ["9 of 11 are payment/DECLINED"],
        "action": "Look at the reasons.",
        "fired": "2026-09-21T14:13:20Z",
    }


async def test_an_event_holds_nothing_but_the_alert(endpoint: Endpoint) -> None:
    canary = "canary-4711"
    with sentry_sdk.isolation_scope() as scope:
        scope.set_user({"email": canary})
        scope.add_breadcrumb(message=canary)
        try:
            raise ValueError(canary)
        except ValueError:
            await Sentry(endpoint.dsn).send(of(firing()))
    event = endpoint.next()
    assert canary.encode() not in endpoint.raw[0]
    assert not {"exception", "stacktrace", "threads", "user", "request", "modules"} & set(event)
    assert not event.get("breadcrumbs", {}).get("values")


async def test_a_group_is_one_event_for_each_that_changed(endpoint: Endpoint) -> None:
    notices = (
        *of(firing(FIRST)).notices,
        *of(firing(SECOND)).notices,
        *of(firing("c" * 32), "unchanged").notices,
    )
    parts = Sentry(endpoint.dsn).parts(Notification("high_error_rate", notices))
    assert [[each.alert.id for each in part.notices] for part in parts] == [[FIRST], [SECOND]]


async def test_an_event_that_is_refused_is_not_sent_with_the_next(endpoint: Endpoint) -> None:
    sentry = Sentry(endpoint.dsn)
    endpoint.status = 429
    with pytest.raises(NotAcceptedError, match="HTTP 429"):
        await sentry.send(of(firing(FIRST)))
    endpoint.status = 200
    await sentry.send(of(firing(SECOND)))
    assert [endpoint.next()["fingerprint"][-1] for _ in range(2)] == [FIRST, SECOND]
    assert endpoint.events.empty()


async def test_the_check_in_comes_each_minute_while_rules_are_judged(endpoint: Endpoint) -> None:
    clock = Clock()
    monitor = Monitor(Sentry(endpoint.dsn), "farehold-alerts", monotonic_s=clock.monotonic_s)
    await monitor.look()
    assert endpoint.check_ins.empty()
    for _ in range(180):
        monitor.evaluated()
        await monitor.look()
        clock.now_s += 1.0
    assert (monitor.sent, monitor.failed) == (3, 0)
    found = [endpoint.check_ins.get_nowait() for _ in range(3)]
    assert {(each["monitor_slug"], each["status"]) for each in found} == {("farehold-alerts", "ok")}
    assert len({each["check_in_id"] for each in found}) == 3
    assert found[0]["monitor_config"] == {
        "schedule": {"type": "interval", "value": 1, "unit": "minute"},
        "checkin_margin": 2,
    }
    # Nothing judges any more: Sentry notices.
    clock.now_s += INTERVAL_S
    await monitor.look()
    assert endpoint.check_ins.empty()


async def test_a_check_in_that_fails_is_counted_and_followed_by_the_next(
    endpoint: Endpoint,
) -> None:
    clock = Clock()
    monitor = Monitor(Sentry(endpoint.dsn), "farehold-alerts", monotonic_s=clock.monotonic_s)
    for status in (500, 200):
        endpoint.status = status
        monitor.evaluated()
        await monitor.look()
        clock.now_s += INTERVAL_S
    assert (monitor.sent, monitor.failed) == (1, 1)
