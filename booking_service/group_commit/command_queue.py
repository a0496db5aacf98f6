"""One queue of commands, which are taken in turns; a turn is what one transaction carries out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from booking_service.group_commit.costs import MAX_QUEUED_COST, MAX_TURN_COST
from booking_service.group_commit.submission import PendingSubmission


class CommandQueue:
    """Commands in the order of their arrival.

    A turn has at most `max_turn` commands, and those of more than one cost at most MAX_TURN_COST.
    `drop` is called with commands that no caller waits for any more.
    """

    def __init__(self, max_turn: int, drop: Callable[[PendingSubmission], object]) -> None:
        self._max_turn = max_turn
        self._drop = drop
        self._waiting: deque[PendingSubmission] = deque()
        self._cost = 0
        self._wakes = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_arrival_s(self) -> float | None:
        """When the command arrived that is taken next; None for an empty queue."""
        return self._waiting[0].arrived_s if self._waiting else None

    def has_room(self, cost: int) -> bool:
        """Whether a command of this cost may wait too."""
        return not self._waiting or self._cost + cost <= MAX_QUEUED_COST

    def append(self, pending: PendingSubmission) -> None:
        """Put a command at the end."""
        pending.started = False
        self._waiting.append(pending)
        self._cost += pending.cost
        self._wakes.set()

    def close(self) -> None:
        """End `next_turn` once the queue is empty; nothing may be appended any more."""
        self._closed = True
        self._wakes.set()

    async def next_turn(self) -> list[PendingSubmission]:
        """Wait for commands, and take those of one turn; none once the queue is closed."""
        while not (turn := self.take()) and not self._closed:
            self._wakes.clear()
            await self._wakes.wait()
        return turn

    def take(self) -> list[PendingSubmission]:
        """Take the commands of one turn, if any wait."""
        turn: list[PendingSubmission] = []
        cost = 0
        while self._waiting and len(turn) < self._max_turn:
            pending = self._waiting[0]
            if pending.waiters == 0:
                self._drop(self._pop())
                continue
            cost += pending.cost
            if turn and cost > MAX_TURN_COST:
                break
            pending.started = True
            turn.append(self._pop())
        return turn

    def _pop(self) -> PendingSubmission:
        pending = self._waiting.popleft()
        self._cost -= pending.cost
        return pending


def turns(commands: Iterable[PendingSubmission]) -> Iterator[list[PendingSubmission]]:
    """Split a turn once the cost of all its commands is known."""
    turn: list[PendingSubmission] = []
    cost = 0
    for pending in commands:
        cost += pending.cost
        if turn and cost > MAX_TURN_COST:
            yield turn
            turn, cost = [], pending.cost
        turn.append(pending)
    if turn:
        yield turn
