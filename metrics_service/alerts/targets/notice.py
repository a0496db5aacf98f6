"""What is said of alerts, whatever the target: one notice for each alert, grouped by rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias
from uuid import UUID, uuid5

from protos.metrics.v1 import alert_pb2

Change: TypeAlias = Literal[
    "fired", "released", "repeated", "unchanged", "resolved", "found_late", "test"
]
"""What a notice says. released: its silence has ended, or the alert that held it back; unchanged:
nothing, it is shown beside others of its rule; found_late: it fired and was resolved before anybody
could be told.
"""

_NAMESPACE: Final = UUID("f3a1c9d2-5b7e-4c86-9a40-2d18e6b7c053")
_SEVERITIES: Final = {
    alert_pb2.ALERT_SEVERITY_INFO: "info",
    alert_pb2.ALERT_SEVERITY_WARNING: "warning",
    alert_pb2.ALERT_SEVERITY_CRITICAL: "critical",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One change of one alert, for one target.

    ordinal: how many notices of the alert the target took before. releases: how often the alert had
    ceased to be held back. id: 32 hex digits, the same whenever the same notice is made again.
    """

    alert: alert_pb2.Alert
    change: Change
    ordinal: int
    id: str
    releases: int = 0

    @property
    def over(self) -> bool:
        """Whether the alert is resolved."""
        return self.change in ("resolved", "found_late")

    @property
    def severity(self) -> str:
        return _SEVERITIES.get(self.alert.severity, "info")

    @property
    def text(self) -> str:
        """One sentence."""
        alert = self.alert
        words = alert.summary or alert.rule
        if alert.end_reason and self.over:
            words = f"{words} ({alert.end_reason})"
        return f"{_WORDS[self.change]}{alert.rule}: {words}"


@dataclass(frozen=True, slots=True)
class Notification:
    """What one target is told at once of the alerts of one rule: those that changed first."""

    rule: str
    notices: tuple[Notice, ...]

    @property
    def news(self) -> Iterator[Notice]:
        """Those that say something new."""
        return (each for each in self.notices if each.change != "unchanged")

    def apart(self) -> list[Notification]:
        """Return one notification for each change."""
        return [Notification(self.rule, (each,)) for each in self.news]


class Target(Protocol):
    """Somewhere that takes notifications."""

    @property
    def name(self) -> str: ...

    def parts(self, notification: Notification) -> list[Notification]:
        """Return what is sent of it, each by a call of `send`."""

    async def send(self, part: Notification) -> str:
        """Hand it over, within a bounded time; return what the target answered.

        NotAcceptedError where it does not take it.
        """


class NotAcceptedError(Exception):
    """The target does not have it, or nobody knows. The text holds no address and no secret.

    again: whether to try again. after_s: the target asks not to be asked before that time.
    """

    def __init__(self, detail: str, *, again: bool = True, after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.again = again
        self.after_s = after_s


def notice_id(target: str, alert_id: str, ordinal: int, *, over: bool) -> str:
    """Return the id of a notice, by which a target that gets it twice can tell."""
    state = "resolved" if over else "firing"
    return uuid5(_NAMESPACE, f"{target}\n{alert_id}\n{ordinal}\n{state}").hex


_WORDS: Final[dict[Change, str]] = {
    "fired": "",
    "released": "Silence or inhibition ended: ",
    "repeated": "Still firing: ",
    "unchanged": "Still firing: ",
    "resolved": "Resolved: ",
    "found_late": "Found late, and over: ",
    "test": "Test: ",
}
