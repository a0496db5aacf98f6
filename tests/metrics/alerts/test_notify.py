"""Messages to Sentry, received by a local endpoint with its envelope protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sentry_sdk

from metrics_service.alerts.notify import HealthAlert, NullNotifier, SentryNotifier
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from tests.metrics.sentry import BOUND_S, Endpoint, listening


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as state:
        yield state


def verdict(status: DatabaseHealth.Status.ValueType, *messages: str) -> DatabaseHealth:
    reasons = [HealthReason(criterion="probe", message=message) for message in messages]
    return DatabaseHealth(status=status, reasons=reasons)


def test_unhealthy_and_recovery_are_one_message_each(endpoint: Endpoint) -> None:
    notifier = SentryNotifier(endpoint.dsn)
    alert = HealthAlert(notifier)
    for status in (
        DatabaseHealth.STATUS_UNSPECIFIED,
        DatabaseHealth.HEALTHY,
        DatabaseHealth.DEGRADED,
        DatabaseHealth.UNHEALTHY,
        DatabaseHealth.UNHEALTHY,
        DatabaseHealth.STALE,
        DatabaseHealth.UNHEALTHY,
        DatabaseHealth.DEGRADED,
        DatabaseHealth.HEALTHY,
    ):
        alert.observe(verdict(status, "booking-1: the database does not answer"))
    first, second = endpoint.next(), endpoint.next()
    notifier.close(BOUND_S)
    assert endpoint.events.empty()
    assert (first["level"], second["level"]) == ("error", "info")
    assert first["message"].startswith("Database unhealthy: booking-1: the database does not")
    assert second["message"].startswith("Database recovered")
    assert first["fingerprint"] == second["fingerprint"] == ["database_unhealthy"]
    assert first["tags"]["criteria"] == "probe"
    assert first["contexts"]["database_health"]["status"] == "UNHEALTHY"
    assert set(endpoint.paths) == {"/api/1/envelope/"}
    assert all("sentry_key=key" in key for key in endpoint.keys)


def test_it_turns_unhealthy_again_after_a_recovery(endpoint: Endpoint) -> None:
    notifier = SentryNotifier(endpoint.dsn)
    alert = HealthAlert(notifier)
    for status in (
        DatabaseHealth.UNHEALTHY,
        DatabaseHealth.HEALTHY,
        DatabaseHealth.UNHEALTHY,
    ):
        alert.observe(verdict(status, "the database does not answer"))
    assert [endpoint.next()["level"] for _ in range(3)] == ["error", "info", "error"]
    notifier.close(BOUND_S)


def test_a_message_holds_nothing_but_the_verdict(endpoint: Endpoint) -> None:
    canary = "canary-4711"
    notifier = SentryNotifier(endpoint.dsn)
    with sentry_sdk.isolation_scope() as scope:
        scope.set_user({"email": canary})
        scope.add_breadcrumb(message=canary)
        HealthAlert(notifier).observe(verdict(DatabaseHealth.UNHEALTHY, "p99_ms 2400"))
    event = endpoint.next()
    notifier.close(BOUND_S)
    assert canary.encode() not in endpoint.raw[0]
    assert not {"exception", "stacktrace", "threads", "user", "request", "modules"} & set(event)


def test_a_stuck_receiver_never_blocks_callers_and_its_queue_is_bounded(
    endpoint: Endpoint,
) -> None:
    endpoint.release.clear()
    notifier = SentryNotifier(endpoint.dsn)
    unhealthy = verdict(DatabaseHealth.UNHEALTHY, "x")
    # Would one of them wait for the receiver, it would wait for ever: it is released afterwards.
    for _ in range(1000):
        notifier.send_unhealthy(unhealthy)
    endpoint.release.set()
    notifier.close(BOUND_S)
    # The queue, and the one that was on its way when it filled.
    assert 1 <= endpoint.events.qsize() <= 101


def test_an_unreachable_receiver_fails_nothing() -> None:
    notifier = SentryNotifier("http://key@127.0.0.1:1/1")
    HealthAlert(notifier).observe(verdict(DatabaseHealth.UNHEALTHY, "it does not answer"))
    notifier.close(2.0)


def test_without_a_dsn_nothing_is_sent() -> None:
    alert = HealthAlert(NullNotifier())
    alert.observe(verdict(DatabaseHealth.UNHEALTHY, "it does not answer"))
    alert.observe(verdict(DatabaseHealth.HEALTHY))
