"""Pages of the lists of alerts and silences. Of alerts, those that are not over come first, firing
ones before pending ones, then those that are; each kind newest first. A token names the last one of
a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from metrics_service.storage.silences import Spot
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert, Silence

M = TypeVar("M", Alert, Silence)

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 200

MAX_PAGE_BYTES: Final = 900_000
"""Of a page of more than one."""

OVER: Final = 9

_RANKS: Final = {
    alert_pb2.ALERT_STATE_FIRING: 0,
    alert_pb2.ALERT_STATE_RECOVERING: 0,
    alert_pb2.ALERT_STATE_PENDING: 1,
    alert_pb2.ALERT_STATE_NO_DATA: 2,
}
_SILENCE_TOKEN: Final = re.compile(r"([01])\.(\d{1,16})\.([0-9a-f]{32})")
_TOKEN: Final = re.compile(r"([0129])\.(\d{1,16})\.([0-9a-f]{32})")


class Key(NamedTuple):
    """The place of an alert in the list: its kind, minus its time in microseconds, and its id."""

    rank: int
    before_us: int
    id: str


def key_of(alert: Alert) -> Key:
    """Return the place of an alert."""
    rank = _RANKS.get(alert.state, OVER)
    time = alert.resolve_time if rank == OVER else alert.start_time
    return Key(rank, -time.ToMicroseconds(), alert.id)


def sort(alerts: Iterable[Alert], after: Key | None) -> list[Alert]:
    """Return the alerts in the order of the list, after a place."""
    found = sorted(alerts, key=key_of)
    return found if after is None else [each for each in found if key_of(each) > after]


def token_of(key: Key) -> str:
    """Return the token of the page after an alert."""
    return f"{key.rank}.{-key.before_us}.{key.id}"


def parse(token: str) -> Key | None:
    """Return the alert after which a page begins; None for a text that token_of never gave."""
    found = _TOKEN.fullmatch(token)
    return Key(int(found[1]), -int(found[2]), found[3]) if found else None


def silence_token(silence: Silence) -> str:
    """Return the token of the page after a silence."""
    time = silence.create_time if silence.active else silence.end_time
    return f"{silence.active:d}.{time.ToMicroseconds()}.{silence.id}"


def parse_silence(token: str) -> Spot | None:
    """Return the silence after which a page begins; None for what silence_token never gave."""
    found = _SILENCE_TOKEN.fullmatch(token)
    return Spot(found[1] == "1", int(found[2]), found[3]) if found else None


def fit(messages: Sequence[M], size: int) -> list[M]:
    """Return those that fit on one page, in number and bytes; at least one if there is one."""
    page: list[M] = []
    total = 0
    for message in messages[:size]:
        total += message.ByteSize()
        if page and total > MAX_PAGE_BYTES:
            break
        page.append(message)
    return page
