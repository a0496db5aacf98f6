"""What the table of sessions does not have yet, and how it is written to rows and read back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from protos.metrics.v1 import checkpoint_pb2

_ROW_SESSIONS: Final = 500


class SessionChange:
    """The changes of one visit since the table had it.

    key: the actor. is_new: the table has no row of it. part: its events from the one with index
    `first` on, as visit.encode() gives them; may be empty. events: how many it had in all.
    start_us, steps: of its best chain; steps is None where the chain did not change. abandoned,
    ahead: as in Outcome and Actor. package_id: of its furthest step; empty where that did not
    change.
    """

    __slots__ = (
        "abandoned",
        "ahead",
        "booking_ids",
        "events",
        "first",
        "is_new",
        "key",
        "last_us",
        "number",
        "package_id",
        "part",
        "start_us",
        "steps",
    )

    def __init__(self, number: int, key: str, *, is_new: bool, first: int) -> None:
        self.number = number
        self.key = key
        self.is_new = is_new
        self.first = first
        self.part = ""
        self.events = 0
        self.start_us = 0
        self.steps: int | None = None
        self.abandoned = False
        self.ahead = False
        self.package_id = ""
        self.booking_ids: tuple[str, ...] = ()
        self.last_us = 0


class SessionChanges:
    """Changes by the number of their visit. anew: no row of the table is of this state.
    saved_number: rows of visits above it are not of this state. received_us: when the newest batch
    since was received.
    """

    def __init__(self) -> None:
        self.by_number: dict[int, SessionChange] = {}
        self.anew = True
        self.saved_number = 0
        self.received_us = 0

    def saved(self, last_number: int) -> None:
        """Note that the table has all of them, and rows up to this number."""
        self.by_number.clear()
        self.anew = False
        self.saved_number = last_number
        self.received_us = 0

    def dump(self) -> Iterator[bytes]:
        """Yield rows, each a checkpoint_pb2.SessionChanges; at least one."""
        changes = iter(self.by_number.values())
        some = list(islice(changes, _ROW_SESSIONS))
        while True:
            yield checkpoint_pb2.SessionChanges(
                anew=self.anew,
                saved_number=self.saved_number,
                received_us=self.received_us,
                sessions=map(_to_proto, some),
            ).SerializeToString()
            some = list(islice(changes, _ROW_SESSIONS))
            if not some:
                return

    def load(self, data: bytes) -> None:
        """Take back one row of dump()."""
        message = checkpoint_pb2.SessionChanges.FromString(data)
        self.anew, self.saved_number = message.anew, message.saved_number
        self.received_us = message.received_us
        self.by_number.update((each.number, each) for each in map(_from_proto, message.sessions))

    def __iter__(self) -> Iterator[SessionChange]:
        return iter(self.by_number.values())

    def __len__(self) -> int:
        return len(self.by_number)


def _to_proto(change: SessionChange) -> checkpoint_pb2.SessionChange:
    return checkpoint_pb2.SessionChange(
        number=change.number,
        key=change.key,
        is_new=change.is_new,
        first=change.first,
        part=change.part,
        events=change.events,
        start_us=change.start_us,
        steps=change.steps,
        abandoned=change.abandoned,
        ahead=change.ahead,
        package_id=change.package_id,
        booking_ids=change.booking_ids,
        last_us=change.last_us,
    )


def _from_proto(message: checkpoint_pb2.SessionChange) -> SessionChange:
    change = SessionChange(message.number, message.key, is_new=message.is_new, first=message.first)
    change.part = message.part
    change.events = message.events
    change.start_us = message.start_us
    change.steps = message.steps if message.HasField("steps") else None
    change.abandoned = message.abandoned
    change.ahead = message.ahead
    change.package_id = message.package_id
    change.booking_ids = tuple(message.booking_ids)
    change.last_us = message.last_us
    return change
