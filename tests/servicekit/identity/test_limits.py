"""The limits of one identity, by a clock that the test sets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from servicekit.caller import Identity
from servicekit.errors import RATE_LIMITED
from servicekit.identity.access import AccessRefused
from servicekit.identity.limits import Limits


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def calls(limits: Limits, identity: Identity, number: int) -> list[AccessRefused | None]:
    found = []
    for _ in range(number):
        refusal = limits.enter(identity)
        if refusal is None:
            limits.leave(identity)
        found.append(refusal)
    return found


def test_a_second_of_calls_may_be_made_at_once_and_then_at_the_rate() -> None:
    clock = Clock()
    limits, desk = Limits(clock), Identity("desk", max_per_second=10)
    answers = calls(limits, desk, 12)
    assert answers[:10] == [None] * 10
    refused = answers[10]
    assert refused is not None
    assert (refused.spec, refused.message) == (RATE_LIMITED, "desk may make 10 calls a second")
    assert refused.retry_after_s == pytest.approx(0.1)
    assert answers[11] is not None
    assert answers[11].retry_after_s == pytest.approx(0.1), "a refused call does not count"
    clock.now_s += 0.1
    assert [each is None for each in calls(limits, desk, 2)] == [True, False]
    clock.now_s += 3600
    assert sum(each is None for each in calls(limits, desk, 20)) == 10, "an hour saves one second"


def test_a_rate_below_one_a_second_takes_its_calls() -> None:
    clock = Clock()
    limits, slow = Limits(clock), Identity("slow", max_per_second=0.1)
    first, second = calls(limits, slow, 2)
    assert first is None
    assert second is not None
    assert second.retry_after_s == pytest.approx(10)
    clock.now_s += 10
    assert calls(limits, slow, 1) == [None]


def test_so_many_calls_run_at_a_time_and_others_are_not_touched() -> None:
    limits = Limits(Clock())
    desk, other = Identity("desk", max_concurrent=2), Identity("other", max_concurrent=2)
    assert [limits.enter(desk), limits.enter(desk), limits.enter(other)] == [None] * 3
    refused = limits.enter(desk)
    assert refused is not None
    assert refused.message == "desk may make 2 calls at a time"
    assert refused.retry_after_s
    limits.leave(desk)
    assert limits.enter(desk) is None
    for identity in (desk, desk, other):
        limits.leave(identity)
    assert not limits._running
