"""The reasons for which the event log refuses a request of a producer."""

from __future__ import annotations


class RefusedError(Exception):
    """The log refuses a request; nothing of it is stored."""


class FencedError(RefusedError):
    """A newer epoch, or a newer stream of the same epoch, has taken over; epoch is then 0."""

    def __init__(self, epoch: int = 0) -> None:
        what = f"epoch {epoch}" if epoch else "another stream of this producer"
        super().__init__(f"{what} has taken over")
        self.epoch = epoch


class GapError(RefusedError):
    """The batch is not the next one of its producer, which is next_seq."""

    def __init__(self, next_seq: int) -> None:
        super().__init__(f"the next batch is {next_seq}")
        self.next_seq = next_seq


class EpochError(RefusedError):
    """The epoch exceeds the stored one by more than a producer of facts can have begun."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the epoch is too far above {epoch}")
        self.epoch = epoch


class ForkedError(RefusedError):
    """The facts of this log are those of another producer. events is the number of those stored,
    None for a producer of which none are.
    """

    def __init__(self, events: int | None = None) -> None:
        super().__init__("the facts of this log are those of another producer")
        self.events = events


class FullError(RefusedError):
    """The log has no room for telemetry; the batch may be sent again later."""

    def __init__(self) -> None:
        super().__init__("the log has no room for telemetry")


class OwnerError(RefusedError):
    """The producer belongs to another service."""

    def __init__(self) -> None:
        super().__init__("this producer belongs to another service")
