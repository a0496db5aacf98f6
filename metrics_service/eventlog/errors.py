"""The reasons for which the event log refuses a request of a producer."""

from __future__ import annotations


class FencedError(Exception):
    """A newer epoch, or a newer stream of the same producer, has taken over."""


class GapError(Exception):
    """The batch is not the next one of its producer, which is next_seq."""

    def __init__(self, next_seq: int) -> None:
        super().__init__(f"the next batch is {next_seq}")
        self.next_seq = next_seq
