"""Outages of a running service's database, from the probe to Sentry and a webhook; the waits of
groups are short here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from metrics_service.alerts import service as alerts_service
from metrics_service.alerts.targets.create import create_targets
from metrics_service.alerts.targets.groups import Timing
from protos.metrics.v1 import alert_pb2, alert_pb2_grpc
from protos.tracking.v1.tracking_pb2 import Probe
from tests.metrics import sentry
from tests.metrics.alerts.targets.receiver import HANG, Receiver, Request, listening
from tests.metrics.rpc.test_track import track, view
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until

RULE = "database_unhealthy"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as state:
        yield state


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(wait_s=0.0, interval_s=0.1)
    monkeypatch.setattr(alerts_service, "create_targets", partial(create_targets, timing=timing))


async def told(receiver: Receiver, change: str) -> Request:
    """The next notification of the rule, which says this."""
    while True:
        request = await asyncio.to_thread(receiver.next)
        if request.json["groupLabels"]["alertname"] == RULE:
            assert [each for each, _ in request.notices()] == [change]
            return request


async def test_each_outage_is_told_once_and_a_second_one_is_a_new_issue(
    metrics_dsn: str, receiver: Receiver
) -> None:
    with sentry.listening() as endpoint:
        settings = {"METRICS_WEBHOOK_URL": receiver.url, "METRICS_SENTRY_DSN": endpoint.dsn}
        async with running(metrics_dsn, **settings) as service:
            async with Producer(service) as producer:
                producer.report(Probe.UNREACHABLE)
                first = await told(receiver, "fired")
                producer.report(Probe.REACHABLE)
                await told(receiver, "resolved")
                producer.report(Probe.UNREACHABLE)
                second = await told(receiver, "fired")
            await until(lambda: endpoint.events.qsize() >= 3, "Sentry")
        # Another process knows what was told, and says how it ends.
        async with running(metrics_dsn, **settings) as service, Producer(service) as producer:
            producer.report(Probe.REACHABLE)
            await told(receiver, "resolved")
            await until(lambda: endpoint.events.qsize() >= 4, "Sentry")
        events = [endpoint.next() for _ in range(endpoint.events.qsize())]
    issues = [each["fingerprint"] for each in events if each["tags"]["rule"] == RULE]
    incidents = [each.json["alerts"][0]["annotations"]["incident"] for each in (first, second)]
    assert [issue[-1] for issue in issues] == [incidents[0]] * 2 + [incidents[1]] * 2
    assert incidents[0] != incidents[1]


async def test_a_webhook_that_hangs_holds_up_neither_events_nor_answers(
    metrics_dsn: str, receiver: Receiver
) -> None:
    receiver.always = HANG
    async with (
        running(metrics_dsn, METRICS_WEBHOOK_URL=receiver.url) as service,
        Producer(service) as producer,
    ):
        producer.report(Probe.UNREACHABLE)
        await asyncio.to_thread(receiver.next)
        stub: Any = alert_pb2_grpc.AlertServiceStub(service.channel)
        testing = stub.SendTest(alert_pb2.SendTestRequest(target="webhook"))
        await asyncio.to_thread(receiver.next)
        for _ in range(100):
            assert not await track(service, view())
        await until(lambda: _events(service) >= 100, "the events are folded")
        assert not testing.done()
        testing.cancel()
        shown = await stub.ListAlerts(alert_pb2.ListAlertsRequest(), timeout=BOUND_S)
        written, hanging = shown.targets
        assert (written.name, hanging.name, hanging.sent) == ("log", "webhook", 0)
        assert written.sent >= 1
        assert hanging.waiting >= 1


def _events(service: Service) -> int:
    return service.server.engine.current_state().metrics().quality.events


async def test_a_test_says_what_the_target_answered(metrics_dsn: str, receiver: Receiver) -> None:
    receiver.always = 418
    async with running(metrics_dsn, METRICS_WEBHOOK_URL=receiver.url) as service:
        stub: Any = alert_pb2_grpc.AlertServiceStub(service.channel)
        answer = await stub.SendTest(alert_pb2.SendTestRequest(target="webhook"), timeout=BOUND_S)
    assert answer == alert_pb2.SendTestResponse(delivered=False, detail="HTTP 418")
