"""Decides who is told what and when, without a clock, a database or a network.

Alerts of a rule are a group. Its first notification waits for others, two of them keep a distance,
and while an alert fires it is repeated. What a target did not take is decided anew each time, so
that it is told how things are, not how they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from metrics_service.alerts.targets.notice import Change, Notice, Notification, notice_id
from protos.metrics.v1 import alert_pb2

MAX_ALERTS: Final = 1_000
"""Alerts that are known at once; beyond it those that are over longest are left out."""

MAX_OVER: Final = 1_000
"""Alerts that are over and settled, whose changes are no news any more."""

_ACTIVE: Final = (
    alert_pb2.ALERT_STATE_FIRING,
    alert_pb2.ALERT_STATE_RECOVERING,
    alert_pb2.ALERT_STATE_NO_DATA,
)


class Timing(NamedTuple):
    """In seconds: how long the first notification of a group waits for others, the least time
    between two, and after how long without one it is repeated.
    """

    wait_s: float = 30.0
    interval_s: float = 300.0
    repeat_s: float = 4 * 3600.0


TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class Sent:
    """What a target has taken of an alert: the ordinal of the next notice, when it took the last
    one, how often the alert had been released by then, and whether that one said it is over.
    """

    ordinal: int
    sent_s: float
    releases: int = 0
    over: bool = False


@dataclass(slots=True)
class _Known:
    alert: alert_pb2.Alert
    first_s: float
    ended_s: float | None = None
    held_by: str = ""
    releases: int = 0
    sent: dict[str, Sent] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    next_s: float
    last_s: float | None = None
    alerts: dict[str, _Known] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """The targets that have not taken or refused its last notification yet."""


class Groups:
    """The alerts that targets are to know of. Times are seconds of a clock without steps.

    held: what holds back the notifications of an alert now, such as a silence; "" for nothing.
    """

    def __init__(
        self,
        targets: Sequence[str],
        held: Callable[[alert_pb2.Alert], str],
        timing: Timing = TIMING,
        told: Callable[[str, alert_pb2.Alert], bool] = lambda *_: True,
    ) -> None:
        """Told: whether a target is told of an alert at all."""
        self.left_out = 0
        """Alerts that did not fit."""

        self._targets = tuple(targets)
        self._held = held
        self._timing = timing
        self._told = told
        self._groups: dict[str, _Group] = {}
        self._over: dict[str, None] = {}
        self._count = 0
        # The rule of each alert that is over, in the order in which they ended.
        self._ended: dict[str, str] = {}

    def offer(self, alert: alert_pb2.Alert, now_s: float) -> None:
        """Take an alert as it is now."""
        active = alert.state in _ACTIVE
        if alert.id in self._over or not (active or alert.state == alert_pb2.ALERT_STATE_RESOLVED):
            return
        group = self._groups.setdefault(alert.rule, _Group(now_s + self._timing.wait_s))
        known = group.alerts.get(alert.id)
        if known is None:
            if not self._make_room():
                self.left_out += 1
                return
            known = group.alerts[alert.id] = _Known(alert, now_s)
            self._count += 1
        elif known.ended_s is not None:
            return
        elif active:
            known.alert = alert
            if not known.held_by or self._held(alert):
                return
        known.alert = alert
        if not active:
            known.ended_s = now_s
            self._ended[alert.id] = alert.rule
        group.next_s = min(group.next_s, self._earliest_s(group, now_s))

    def restore(self, alert: alert_pb2.Alert, sent: Mapping[str, Sent], now_s: float) -> None:
        """Take an alert of an earlier process, and what the targets have taken of it.

        One that is over is told to those that know that it fired.
        """
        self.offer(alert, now_s)
        group = self._groups.get(alert.rule)
        known = group.alerts.get(alert.id) if group else None
        if group is None or known is None:
            return
        known.first_s = -math.inf
        known.sent = {target: sent[target] for target in self._targets if target in sent}
        if sent:
            last_s = max(each.sent_s for each in sent.values())
            group.last_s = last_s if group.last_s is None else max(group.last_s, last_s)
        group.next_s = self._earliest_s(group, now_s)
        if known.ended_s is not None and not self._unsettled(known):
            self._forget(group, alert.id)

    def due(self, now_s: float) -> list[tuple[str, Notification]]:
        """Return the targets to tell now, and what; `settle` must be called for each."""
        found = []
        for rule, group in list(self._groups.items()):
            if group.next_s > now_s:
                continue
            made = self._make(rule, group, now_s)
            found += made
            if made:
                group.last_s = now_s
                group.waiting.update(target for target, _ in made)
            self._clean(group, now_s)
            if group.alerts or now_s < self._after_last_s(group):
                group.next_s = now_s + self._timing.interval_s
            else:
                del self._groups[rule]
        return found

    def took(self, target: str, notice: Notice, now_s: float) -> None:
        """Note that a target has taken a notice."""
        group = self._groups.get(notice.alert.rule)
        known = group.alerts.get(notice.alert.id) if group else None
        if known is not None:
            known.sent[target] = Sent(notice.ordinal + 1, now_s, notice.releases, notice.over)

    def settle(self, target: str, rule: str, now_s: float) -> None:
        """Note that a target has taken or dropped a notification."""
        group = self._groups.get(rule)
        if group is not None:
            group.waiting.discard(target)
            self._clean(group, now_s)

    def clear(self) -> None:
        """Forget all alerts: another process tells of them."""
        self._groups.clear()
        self._over.clear()
        self._ended.clear()
        self._count = 0

    def _earliest_s(self, group: _Group, now_s: float) -> float:
        return max(now_s + self._timing.wait_s, self._after_last_s(group))

    def _after_last_s(self, group: _Group) -> float:
        return -math.inf if group.last_s is None else group.last_s + self._timing.interval_s

    def _make(self, rule: str, group: _Group, now_s: float) -> list[tuple[str, Notification]]:
        for known in group.alerts.values():
            held_by = "" if known.ended_s is not None else self._held(known.alert)
            if known.held_by and not held_by and known.ended_s is None:
                known.releases += 1
            if known.ended_s is None:
                known.held_by = held_by
        made = []
        for target in self._targets:
            notices = [] if target in group.waiting else self._notices(group, target, now_s)
            if notices:
                made.append((target, Notification(rule, tuple(notices))))
        return made

    def _notices(self, group: _Group, target: str, now_s: float) -> list[Notice]:
        news, others = [], []
        last_s = -math.inf
        for known in group.alerts.values():
            change = self._change(known, target)
            if change is not None:
                news.append(_notice(known, target, change))
            elif target in known.sent and known.ended_s is None and not known.held_by:
                last_s = max(last_s, known.sent[target].sent_s)
                others.append(known)
        if news:
            return news + [_notice(known, target, "unchanged") for known in others]
        if others and now_s - last_s >= self._timing.repeat_s:
            return [_notice(known, target, "repeated") for known in others]
        return []

    def _change(self, known: _Known, target: str) -> Change | None:
        sent = known.sent.get(target)
        if not self._told(target, known.alert):
            return None
        if known.ended_s is not None:
            if sent is not None:
                return None if sent.over else "resolved"
            return "found_late" if self._late(known) else None
        if known.held_by:
            return None
        if sent is None:
            return "released" if known.releases else "fired"
        return "released" if sent.releases < known.releases else None

    def _unsettled(self, known: _Known) -> bool:
        return any(self._change(known, target) for target in self._targets)

    def _late(self, known: _Known) -> bool:
        """Whether it lasted longer than the wait, but was offered for less, as after a gap."""
        wait_s = self._timing.wait_s
        if known.ended_s is None or known.held_by or known.ended_s - known.first_s >= wait_s:
            return False
        alert = known.alert
        lasted_s = alert.resolve_time.ToMicroseconds() - alert.fire_time.ToMicroseconds()
        return lasted_s >= wait_s * 1e6

    def _clean(self, group: _Group, now_s: float) -> None:
        """Forget the alerts that are over and of which no target is to be told any more."""
        for alert_id, known in list(group.alerts.items()):
            if known.ended_s is None or group.waiting:
                continue
            unsettled = self._unsettled(known)
            given_up = now_s - known.ended_s >= self._timing.repeat_s
            if not unsettled or given_up:
                self.left_out += unsettled
                self._forget(group, alert_id)

    def _forget(self, group: _Group, alert_id: str) -> None:
        del group.alerts[alert_id]
        self._ended.pop(alert_id, None)
        self._count -= 1
        self._over[alert_id] = None
        if len(self._over) > MAX_OVER:
            del self._over[next(iter(self._over))]

    def _make_room(self) -> bool:
        """Return whether another alert fits, if need be by leaving out the one over longest."""
        if self._count < MAX_ALERTS:
            return True
        if not self._ended:
            return False
        alert_id, rule = next(iter(self._ended.items()))
        self.left_out += 1
        self._forget(self._groups[rule], alert_id)
        return True


def _notice(known: _Known, target: str, change: Change) -> Notice:
    sent = known.sent.get(target)
    ordinal = sent.ordinal if sent else 0
    if change == "unchanged":
        # That of the notice it has already.
        ordinal = max(ordinal - 1, 0)
    over = known.ended_s is not None
    alert_id = known.alert.id
    return Notice(
        known.alert,
        change,
        ordinal,
        notice_id(target, alert_id, ordinal, over=over),
        known.releases,
    )
