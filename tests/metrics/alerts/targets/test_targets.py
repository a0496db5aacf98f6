"""Notifications from the change of an alert to real receivers: once within a run, with one id
across a crash, and never in anybody's way. The clock is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog

from metrics_service.alerts.targets.log import Log
from metrics_service.alerts.targets.notice import NotAcceptedError, Target
from metrics_service.alerts.targets.posting import Poster
from metrics_service.alerts.targets.sender import MAX_QUEUED
from metrics_service.alerts.targets.sentry import Sentry
from metrics_service.alerts.targets.targets import Ledger, Targets, UnknownTargetError
from metrics_service.alerts.targets.webhook import Webhook
from metrics_service.storage.notifications import NotificationLedger
from protos.metrics.v1.alert_pb2 import Alert
from tests.metrics import sentry as sentry_endpoint
from tests.metrics.alerts.targets.incidents import Clock, Memory, Plain, change_of, firing, resolved
from tests.metrics.alerts.targets.receiver import (
    BOUND_S,
    CLOSE,
    GARBAGE,
    HANG,
    Receiver,
    listening,
)

A, B = "a" * 32, "b" * 32


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as state:
        yield state


def webhook(receiver: Receiver, within_s: float = 5.0) -> Webhook:
    return Webhook(Poster(receiver.url, within_s=within_s), "https://metrics.example.org")


class World:
    """Targets whose ticks are made by the test."""

    def __init__(
        self, targets: Sequence[Target], ledger: Ledger | None = None, max_queued: int = MAX_QUEUED
    ) -> None:
        self.clock = Clock()
        self.memory = Memory()
        self.targets = Targets(
            targets,
            ledger or self.memory,
            monotonic_s=self.clock.monotonic_s,
            sleep=self.clock.sleep,
            now_us=self.clock.now_us,
            unset={"sentry": "METRICS_SENTRY_DSN"},
            max_queued=max_queued,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Targets]:
        self.targets.start()
        try:
            yield self.targets
        finally:
            await self.targets.stop()

    async def after(self, seconds: float, *alerts: Alert) -> None:
        """Let time pass, offer alerts, and let the group's wait pass too."""
        self.clock.now_s += seconds
        self.targets.offer([change_of(alert) for alert in alerts])
        self.clock.now_s += 30.0
        self.targets.tick()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def count(self, target: str, outcome: str) -> int:
        return self.targets.counts()[target, outcome]


async def test_each_target_is_told_once_within_a_run(receiver: Receiver) -> None:
    with sentry_endpoint.listening() as endpoint, structlog.testing.capture_logs() as lines:
        world = World([Log(), Sentry(endpoint.dsn), webhook(receiver)])
        async with world.running() as targets:
            alert = firing(A)
            for change in (alert, alert, resolved(alert), resolved(alert)):
                await world.after(0.0 if change is alert else 400.0, change)
                await world.until(lambda: not any(each.waiting for each in targets.status()))
                await targets.record()
            await world.until(lambda: len(receiver.requests) == endpoint.events.qsize() == 2)
            await world.until(lambda: world.count("webhook", "sent") == 2)
            await targets.record()
        events = [endpoint.next() for _ in range(2)]
    assert [request.notices()[0][0] for request in receiver.requests] == ["fired", "resolved"]
    assert events[0]["fingerprint"] == events[1]["fingerprint"]
    assert [line["event"] for line in lines] == ["alert_fired", "alert_resolved"]
    assert world.targets.counts() == {
        (target, outcome): 2 * (outcome == "sent")
        for target in ("log", "sentry", "webhook")
        for outcome in ("sent", "failed", "dropped")
    }
    assert {(row.target, row.ordinal, row.change) for row in world.memory.rows} == {
        (target, ordinal, change)
        for target in ("log", "sentry", "webhook")
        for ordinal, change in enumerate(("fired", "resolved"))
    }


async def test_another_process_says_nothing_twice(receiver: Receiver, metrics_dsn: str) -> None:
    ledger = NotificationLedger(metrics_dsn)
    alert = firing(A)
    first = World([webhook(receiver)], ledger)
    async with first.running():
        await first.after(0.0, alert)
        await first.until(lambda: first.count("webhook", "sent") == 1)
    second = World([webhook(receiver)], ledger)
    second.clock.now_s = first.clock.now_s + 60.0
    await second.targets.restore([alert])
    async with second.running():
        for _ in range(3):
            await second.after(300.0, alert)
        await second.after(300.0, resolved(alert))
        await second.until(lambda: second.count("webhook", "sent") == 1)
    third = World([webhook(receiver)], ledger)
    third.clock.now_s = second.clock.now_s
    await third.targets.restore([resolved(alert)])
    async with third.running():
        await third.after(400.0)
    said = [notice for request in receiver.requests for notice in request.notices()]
    assert [change for change, _ in said] == ["fired", "resolved"]
    rows = await ledger.list([A])
    await ledger.close()
    assert [(row.target, row.ordinal, row.change) for row in rows] == [
        ("webhook", 0, "fired"),
        ("webhook", 1, "resolved"),
    ]


async def test_what_was_sent_and_not_recorded_is_sent_again_with_its_id(
    receiver: Receiver, metrics_dsn: str
) -> None:
    ledger = NotificationLedger(metrics_dsn)
    alert = firing(A)
    broken = Memory(broken=True)
    first = World([webhook(receiver)], broken)
    with structlog.testing.capture_logs() as lines:
        async with first.running() as targets:
            await first.after(0.0, alert)
            await first.until(lambda: first.count("webhook", "sent") == 1)
            await targets.record()
            # Within the run it is known.
            await first.after(600.0, alert)
    assert [line["event"] for line in lines] == ["notifications_unrecorded"]
    second = World([webhook(receiver)], ledger)
    second.clock.now_s = first.clock.now_s
    await second.targets.restore([alert])
    async with second.running():
        await second.after(0.0)
        await second.until(lambda: second.count("webhook", "sent") == 1)
    one, other = (request.notices() for request in receiver.requests)
    assert one == other
    assert one[0][0] == "fired"


async def test_a_ledger_that_was_away_is_written_once_it_is_back(receiver: Receiver) -> None:
    world = World([webhook(receiver)])
    world.memory.broken = True
    async with world.running() as targets:
        await world.after(0.0, firing(A))
        await world.until(lambda: world.count("webhook", "sent") == 1)
        await targets.record()
        world.memory.broken = False
        await targets.record()
        await targets.record()
    assert [(row.alert_id, row.ordinal) for row in world.memory.rows] == [(A, 0)]


@pytest.mark.parametrize("answer", [429, 500, HANG, GARBAGE, CLOSE])
async def test_trouble_is_counted_shown_and_tried_again(receiver: Receiver, answer: object) -> None:
    receiver.answers.extend([answer] * 2)
    world = World([webhook(receiver, within_s=1.0 if answer == HANG else 5.0)])
    async with world.running() as targets:
        await world.after(0.0, firing(A))
        await world.until(lambda: world.count("webhook", "sent") == 1)
        (status,) = targets.status()
    assert (status.sent, status.dropped) == (1, 0)
    # A slow machine may need more than the second that one of them has.
    assert status.failed == 2 or (answer == HANG and status.failed > 2)
    assert status.last_error
    # What was asked again was the same.
    assert len({tuple(request.notices()) for request in receiver.requests}) == 1


async def test_a_target_that_hangs_keeps_nobody_waiting(receiver: Receiver) -> None:
    receiver.always = HANG
    other = Plain("other")
    world = World([webhook(receiver, within_s=60.0), other])
    async with world.running():
        await world.after(0.0, firing(A))
        await asyncio.to_thread(receiver.next)
        for number in range(200):
            world.targets.offer([change_of(firing(f"{number:032x}", rule=f"rule_{number}"))])
        await world.after(0.0)
        await world.until(lambda: world.count("other", "sent") == 201)
        assert world.count("webhook", "sent") == 0


async def test_what_does_not_fit_is_dropped_and_said_later(receiver: Receiver) -> None:
    world = World([webhook(receiver)], max_queued=2)
    with structlog.testing.capture_logs() as lines:
        alerts = [firing(f"{number:032x}", rule=f"rule_{number}") for number in range(5)]
        await world.after(0.0, *alerts)
        assert world.count("webhook", "dropped") == 3
        async with world.running():
            await world.until(lambda: world.count("webhook", "sent") == 2)
            for sent in (4, 5):
                await world.after(300.0)
                await world.until(lambda sent=sent: world.count("webhook", "sent") == sent)  # type: ignore[misc]
    assert world.count("webhook", "dropped") == 4
    said = [request.json["groupLabels"]["alertname"] for request in receiver.requests]
    assert sorted(said) == [alert.rule for alert in alerts]
    # One line a minute.
    assert {line["event"] for line in lines} == {"notification_dropped"}
    assert lines[0]["why"] == "too many wait"


async def test_a_test_goes_at_once_and_leaves_nothing(receiver: Receiver) -> None:
    world = World([Log(), webhook(receiver)])
    assert await world.targets.test("webhook") == (True, "HTTP 200")
    body = receiver.next().json
    assert body["alerts"][0]["annotations"]["change"] == "test"
    receiver.always = HANG
    first = asyncio.create_task(world.targets.test("webhook"))
    await asyncio.to_thread(receiver.next)
    assert await world.targets.test("webhook") == (False, "another test is under way")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    receiver.always = 500
    assert await world.targets.test("webhook") == (False, "HTTP 500")
    assert await world.targets.test("sentry") == (False, "METRICS_SENTRY_DSN is not set")
    with structlog.testing.capture_logs() as lines:
        assert await world.targets.test("log") == (True, "logged")
    assert [line["event"] for line in lines] == ["alert_tested"]
    with pytest.raises(UnknownTargetError, match="must be one of log, sentry, webhook"):
        await world.targets.test("pager")
    await world.targets.record()
    assert world.memory.rows == []
    assert not any(world.targets.counts().values())


async def test_every_change_has_its_line_in_the_log() -> None:
    holding = {A: "silence 1"}
    world = World([Log()])
    targets = Targets(
        [Log()],
        world.memory,
        held=lambda alert: holding.get(alert.id, ""),
        monotonic_s=world.clock.monotonic_s,
        sleep=world.clock.sleep,
    )
    world.targets = targets
    with structlog.testing.capture_logs() as lines:
        async with world.running():
            over = resolved(firing(A)), resolved(firing(B, rule="late"))
            for number, alerts in enumerate([[firing(A)], [], [], [over[0]], [over[1]]]):
                if number == 1:
                    holding.clear()
                targets.offer([change_of(alert) for alert in alerts])
                world.clock.now_s += 4 * 3600 + 300.0
                targets.tick()
                await world.until(lambda: not any(each.waiting for each in targets.status()))
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("alert_released", "error"),
        ("alert_repeated", "error"),
        ("alert_resolved", "info"),
        ("alert_found_late", "error"),
    ]


async def test_a_refused_recovery_is_not_forgotten() -> None:
    target = Plain("plain")
    world = World([target])
    async with world.running():
        await world.after(0.0, firing(A))
        await world.until(lambda: world.count("plain", "sent") == 1)
        target.error = NotAcceptedError("HTTP 403", again=False)
        await world.after(300.0, resolved(firing(A)))
        await world.until(lambda: world.count("plain", "dropped") == 1)
        target.error = None
        await world.after(300.0)
        await world.until(lambda: world.count("plain", "sent") == 2)
    assert target.said() == [("fired",), ("resolved",)]
