"""Which silence holds back the notifications of an alert."""

from __future__ import annotations

from typing import Any

import pytest

from metrics_service.alerts.silences import Silences
from metrics_service.storage.errors import LogUnavailableError
from protos.metrics.v1.alert_pb2 import Alert, Silence, SilenceMatch

MINUTE_US = 60_000_000
ALERT = Alert(rule="slow_query", labels={"operation": "bookings.list", "fingerprint": "1"})


class Store:
    """Silences as they are stored; the answer to a commit may be lost."""

    def __init__(self) -> None:
        self.stored: dict[str, Silence] = {}
        self.answers = True

    async def create(self, silence: Silence, request_id: str) -> Silence:
        self.stored[silence.id] = silence
        if not self.answers:
            raise LogUnavailableError("the database is lost")
        return silence

    async def expire(self, silence_id: str, now_us: int) -> Silence | None:
        silence = self.stored.get(silence_id)
        if silence is not None:
            silence.end_time.FromMicroseconds(now_us)
        return silence

    async def list_active(self, now_us: int) -> list[Silence]:
        return [each for each in self.stored.values() if each.end_time.ToMicroseconds() > now_us]

    async def forget(self, now_us: int) -> None:
        """Nothing is old."""


class Scene:
    def __init__(self) -> None:
        self.store = Store()
        self.now_us = MINUTE_US
        store: Any = self.store
        self.silences = Silences(store, lambda: self.now_us)

    async def silence(self, rule: str = "", **labels: str) -> Silence:
        return await self.silences.create(
            SilenceMatch(rule=rule, labels=labels),
            duration_us=10 * MINUTE_US,
            comment="known",
            caller="ops",
            request_id="",
        )


@pytest.mark.parametrize(
    ("rule", "labels", "holds"),
    [
        ("slow_query", {}, True),
        ("slow_query", {"operation": "bookings.list"}, True),
        ("", {"operation": "bookings.list"}, True),
        ("high_error_rate", {}, False),
        ("slow_query", {"operation": "bookings.create"}, False),
        ("", {"instance": ""}, False),
    ],
)
async def test_one_with_its_rule_and_all_its_labels_holds_an_alert(
    rule: str, labels: dict[str, str], holds: bool
) -> None:
    scene = Scene()
    silence = await scene.silence(rule, **labels)
    assert scene.silences.holding(ALERT) == (silence.id if holds else "")


async def test_it_holds_until_it_ends_or_is_expired() -> None:
    scene = Scene()
    first, second = await scene.silence("slow_query"), await scene.silence("slow_query")
    assert scene.silences.holding(ALERT) == first.id
    await scene.silences.expire(first.id)
    assert scene.silences.holding(ALERT) == second.id
    scene.now_us += 10 * MINUTE_US
    assert scene.silences.holding(ALERT) == ""
    assert await scene.silences.expire("f" * 32) is None


async def test_one_whose_commit_was_not_answered_is_found_by_the_next_look() -> None:
    scene = Scene()
    scene.store.answers = False
    with pytest.raises(LogUnavailableError):
        await scene.silence("slow_query")
    assert scene.silences.holding(ALERT) == ""
    await scene.silences.refresh()
    assert scene.silences.holding(ALERT) in scene.store.stored
