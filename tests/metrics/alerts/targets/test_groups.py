"""Who is told what and when: the clock is set, and nothing is sent."""

from __future__ import annotations

from itertools import pairwise

import pytest

from metrics_service.alerts.targets import groups as groups_module
from metrics_service.alerts.targets.groups import Groups, Sent
from metrics_service.alerts.targets.notice import Notification
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert
from tests.metrics.alerts.targets.incidents import firing, resolved

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


class World:
    """Groups of two targets that take everything but what they are told to drop."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.holding: dict[str, str] = {}
        self.down: set[str] = set()
        self.groups = Groups(["sentry", "webhook"], lambda alert: self.holding.get(alert.id, ""))
        self.told: list[tuple[float, str, Notification]] = []

    def until(self, now_s: float) -> None:
        """Let time pass, a second at a time."""
        while self.now_s < now_s:
            self.now_s += 1.0
            for target, notification in self.groups.due(self.now_s):
                if target not in self.down:
                    self.told.append((self.now_s, target, notification))
                    for notice in notification.news:
                        self.groups.took(target, notice, self.now_s)
                self.groups.settle(target, notification.rule, self.now_s)

    def offer(self, *alerts: Alert) -> None:
        for alert in alerts:
            self.groups.offer(alert, self.now_s)

    def said(self, target: str = "webhook") -> list[tuple[float, list[tuple[str, str]]]]:
        """When a target was told, and what of which alert."""
        return [
            (at_s, [(each.change, each.alert.id[0]) for each in notification.notices])
            for at_s, name, notification in self.told
            if name == target
        ]


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_notification_waits_for_others_of_its_rule(world: World) -> None:
    world.offer(firing(A))
    world.until(29)
    world.offer(firing(B), firing(C, rule="slow_query"))
    world.until(100)
    assert world.said() == [
        (30.0, [("fired", "a"), ("fired", "b")]),
        (59.0, [("fired", "c")]),
    ]
    assert world.said() == world.said("sentry")


def test_two_notifications_of_a_group_keep_five_minutes(world: World) -> None:
    world.offer(firing(A))
    world.until(60)
    world.offer(firing(B))
    world.until(329)
    assert len(world.said()) == 1
    world.until(400)
    assert world.said()[1:] == [(330.0, [("fired", "b"), ("unchanged", "a")])]


def test_the_distance_is_kept_though_all_is_over_in_between(world: World) -> None:
    world.offer(firing(A))
    world.until(40)
    world.offer(resolved(firing(A)))
    world.until(331)
    world.offer(firing(B))
    world.until(1000)
    assert world.said() == [
        (30.0, [("fired", "a")]),
        (330.0, [("resolved", "a")]),
        (630.0, [("fired", "b")]),
    ]


def test_after_a_quiet_time_a_new_alert_waits_only_for_others(world: World) -> None:
    world.offer(firing(A))
    world.until(1000)
    world.offer(firing(B))
    world.until(1030)
    assert world.said()[1:] == [(1030.0, [("fired", "b"), ("unchanged", "a")])]


def test_what_fires_on_is_repeated_every_four_hours(world: World) -> None:
    world.offer(firing(A))
    world.until(9 * 3600)
    times = [at_s for at_s, _ in world.said()]
    assert [said for _, said in world.said()] == [[("fired", "a")]] + [[("repeated", "a")]] * 2
    assert all(0 <= after - before - 4 * 3600 <= 300 for before, after in pairwise(times))
    world.offer(resolved(firing(A)))
    world.until(24 * 3600)
    assert [said for _, said in world.said()][3:] == [[("resolved", "a")]]


def test_it_is_resolved_once(world: World) -> None:
    world.offer(firing(A))
    world.until(400)
    world.offer(resolved(firing(A)), resolved(firing(A)))
    world.until(2000)
    world.offer(resolved(firing(A)), firing(A))
    world.until(9000)
    assert [said for _, said in world.said()] == [[("fired", "a")], [("resolved", "a")]]
    ids = [each.id for _, _, notification in world.told for each in notification.notices]
    # Of two targets and two notices.
    assert len(set(ids)) == 4


def test_nothing_is_said_of_what_is_over_within_the_wait(world: World) -> None:
    world.offer(firing(A))
    world.until(20)
    world.offer(resolved(firing(A), after_s=20))
    world.until(1000)
    assert world.told == []


def test_what_fired_and_ended_in_a_gap_is_said_once(world: World) -> None:
    world.offer(firing(A), resolved(firing(A), after_s=900), resolved(firing(B), after_s=900))
    world.offer(firing(C), resolved(firing(C), after_s=29))
    world.until(2000)
    assert [said for _, said in world.said()] == [[("found_late", "a"), ("found_late", "b")]]


@pytest.mark.parametrize(
    "state",
    [alert_pb2.ALERT_STATE_PENDING, alert_pb2.ALERT_STATE_INACTIVE, 0],
)
def test_what_does_not_fire_is_nothing(world: World, state: alert_pb2.AlertState.ValueType) -> None:
    world.offer(firing(A, state=state))
    world.until(1000)
    assert world.told == []


def test_missing_data_is_said_and_so_is_its_end(world: World) -> None:
    silent = firing(A, state=alert_pb2.ALERT_STATE_NO_DATA)
    world.offer(silent)
    world.until(400)
    world.offer(resolved(silent))
    world.until(800)
    assert [said for _, said in world.said()] == [[("fired", "a")], [("resolved", "a")]]


def test_a_silence_holds_back_until_it_ends(world: World) -> None:
    world.holding[A] = "silence 1"
    world.offer(firing(A))
    world.until(3600)
    assert world.told == []
    world.holding.clear()
    world.until(4000)
    assert [said for _, said in world.said()] == [[("released", "a")]]


def test_a_silence_of_what_was_told_holds_back_repeats_and_its_end_is_said(world: World) -> None:
    world.offer(firing(A))
    world.until(100)
    world.holding[A] = "silence 1"
    world.until(10 * 3600)
    assert len(world.said()) == 1
    world.holding.clear()
    world.until(11 * 3600)
    assert [said for _, said in world.said()][1:] == [[("released", "a")]]


def test_the_end_of_a_silenced_alert_is_said_only_if_its_begin_was(world: World) -> None:
    world.offer(firing(A))
    world.until(100)
    world.holding.update({A: "silence 1", B: "silence 1"})
    world.offer(firing(B))
    world.until(3600)
    world.offer(resolved(firing(A)), resolved(firing(B), after_s=3000))
    world.until(7200)
    assert [said for _, said in world.said()] == [[("fired", "a")], [("resolved", "a")]]


def test_what_another_alert_held_back_is_said_soon_after_it_lets_go() -> None:
    groups = Groups(["webhook"], lambda alert: alert.inhibited_by)
    inhibited = firing(A)
    inhibited.inhibited_by = "ingest_stalled"
    groups.offer(inhibited, 0.0)
    assert groups.due(30.0) == []
    groups.offer(firing(A), 40.0)
    assert groups.due(69.0) == []
    ((_, notification),) = groups.due(70.0)
    assert [each.change for each in notification.notices] == ["released"]


def test_a_target_that_was_down_is_told_how_things_are(world: World) -> None:
    world.down = {"webhook"}
    world.offer(firing(A), firing(B))
    world.until(700)
    world.offer(resolved(firing(B)), firing(C))
    world.until(1400)
    assert world.said() == []
    world.down = set()
    world.until(2000)
    assert world.said() == [(1530.0, [("fired", "a"), ("fired", "c")])]
    assert [said for _, said in world.said("sentry")] == [
        [("fired", "a"), ("fired", "b")],
        [("resolved", "b"), ("fired", "c"), ("unchanged", "a")],
    ]


def test_a_recovery_that_nobody_takes_is_given_up_after_four_hours(world: World) -> None:
    world.offer(firing(A))
    world.until(100)
    world.down = {"webhook"}
    world.offer(resolved(firing(A)))
    world.until(6 * 3600)
    world.down = set()
    world.until(12 * 3600)
    assert [said for _, said in world.said()] == [[("fired", "a")]]
    assert world.groups.left_out == 1


def test_another_process_goes_on_where_the_first_one_ended() -> None:
    first, second = World(), World()
    first.offer(firing(A), firing(B), firing(C))
    first.until(30)
    ((_, _, told), *_) = [each for each in first.told if each[1] == "webhook"]
    # The end of B was not said, and C has not been told; the clock of a process begins anew.
    for alert, targets in (
        (firing(A), ["sentry", "webhook"]),
        (resolved(firing(B)), ["webhook"]),
        (firing(C), []),
    ):
        second.groups.restore(alert, {name: Sent(1, -100.0) for name in targets}, second.now_s)
    second.until(4 * 3600 - 100)
    assert second.said() == [(200.0, [("resolved", "b"), ("fired", "c"), ("unchanged", "a")])]
    again = second.told[-1][2].notices
    assert (again[1].id, again[2].id) == (told.notices[2].id, told.notices[0].id)
    # Sentry has never heard of B.
    assert second.said("sentry") == [(200.0, [("fired", "c"), ("unchanged", "a")])]


def test_what_all_have_been_told_is_not_said_again_by_another_process(world: World) -> None:
    over = {name: Sent(2, -100.0, over=True) for name in ("sentry", "webhook")}
    world.groups.restore(resolved(firing(A)), over, 0.0)
    world.groups.restore(resolved(firing(B)), {}, 0.0)
    for number in range(groups_module.MAX_ALERTS + 1):
        world.groups.restore(resolved(firing(f"{number:032}")), over, 0.0)
    world.until(2000)
    assert world.told == []
    assert world.groups.left_out == 0


def test_the_leader_forgets_when_another_leads(world: World) -> None:
    world.offer(firing(A))
    world.until(40)
    world.groups.clear()
    world.until(9 * 3600)
    assert len(world.said()) == 1


def test_alerts_are_bounded_and_what_is_over_goes_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_module, "MAX_ALERTS", 2)
    world.offer(firing(A), resolved(firing(B), after_s=900), firing(C), firing("d" * 32))
    world.until(100)
    assert [said for _, said in world.said()] == [[("fired", "a"), ("fired", "c")]]
    assert world.groups.left_out == 2


def test_a_target_that_has_not_answered_yet_is_told_nothing_more_until_it_has() -> None:
    groups = Groups(["webhook"], lambda _: "")
    groups.offer(firing(A), 0.0)
    groups.offer(firing(B), 0.0)
    ((_, first),) = groups.due(30.0)
    groups.offer(resolved(firing(A)), 100.0)
    assert groups.due(330.0) == []
    for notice in first.notices:
        groups.took("webhook", notice, 340.0)
    groups.settle("webhook", first.rule, 340.0)
    ((_, second),) = groups.due(630.0)
    assert [(each.change, each.ordinal) for each in second.notices] == [
        ("resolved", 1),
        ("unchanged", 0),
    ]


def test_a_target_that_is_not_told_of_an_alert_hears_nothing_of_it() -> None:
    world = World()
    world.groups = Groups(
        ["sentry", "webhook"],
        lambda _: "",
        told=lambda target, alert: target == "webhook" or alert.id != A,
    )
    world.offer(firing(A), firing(B))
    world.until(5 * 3600)
    assert {each for _, told in world.said("sentry") for each in told} == {
        ("fired", "b"),
        ("repeated", "b"),
    }
    assert ("fired", "a") in world.said()[0][1]
    world.offer(resolved(firing(A)), resolved(firing(B)))
    world.until(6 * 3600)
    assert world.said("sentry")[-1][1] == [("resolved", "b")]
    assert world.said()[-1][1] == [("resolved", "a"), ("resolved", "b")]
