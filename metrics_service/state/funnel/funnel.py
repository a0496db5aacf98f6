"""The funnel: every actor that entered counts in exactly one slot, that of the start of its best
chain, and is exactly one of converted, abandoned and open.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from metrics_service.state.funnel import chain
from metrics_service.state.funnel.actors import Actor, read_actors, write_actors
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.funnel.chain import Chain, Outcome
from metrics_service.state.series.rings import MINUTE_US, Rings

STEPS = ("view", "start", "complete", "confirm")
WINDOW_US = 30 * MINUTE_US
# How long after its window has closed an actor's late events still find it.
LATENESS_US = 10 * MINUTE_US
# Events of an actor that an older one can still be sorted into.
MAX_EVENTS = 16
MAX_ACTORS = 250_000
# An actor with an event further ahead of now than this counts in the figures of all times only:
# rings hold no slot for it yet, and what is added now could not be corrected there later.
AHEAD_US = 30 * MINUTE_US

_TABLE = "funnel"
_ACTORS = "funnel.actors"


class FunnelFold:
    """An ordered funnel of 1 to 10 steps, whose chains may take `window_us`, end inclusive.

    An actor is its newest events, sorted by time and step, over what the older ones came to; what
    it counts for follows from them alone, so the order of arrival does not matter within them.
    An older event than the newest one no longer kept is `late` and moves nothing.

    Memory: at most `max_actors`, about 500 bytes each. Beyond that the actor next to leave is
    settled early and counted in `evicted`.
    """

    tables = (_TABLE,)

    def __init__(
        self,
        steps: Sequence[str] = STEPS,
        window_us: int = WINDOW_US,
        *,
        max_actors: int = MAX_ACTORS,
    ) -> None:
        if not 1 <= len(steps) <= chain.MAX_STEPS:
            raise ValueError(f"a funnel has 1 to {chain.MAX_STEPS} steps, not {len(steps)}")
        self.steps = tuple(steps)
        self.window_us = window_us
        self.late = 0
        self.evicted = 0
        self._max_actors = max_actors
        self._nothing = chain.nothing(len(steps))
        self._rings = Rings(_TABLE, lambda: FunnelCell(len(steps)), FunnelCell.decode)
        self._actors: dict[str, Actor] = {}
        # Heaps of (end of the window, actor), who is open, and (time to leave, actor), who is
        # closed. An entry that no longer agrees with its actor has no effect.
        self._open: list[tuple[int, str]] = []
        self._leaving: list[tuple[int, str]] = []
        self._as_of_us = 0
        self._running_us = 0

    def step(self, actor: str, step: int, time_us: int) -> None:
        """The actor took a step, 0 for the first; every call is one event."""
        if not 0 <= step < len(self.steps):
            raise ValueError(f"step {step} of a funnel of {len(self.steps)}")
        self._take(actor, chain.pack(time_us, step))

    def abandon(self, actor: str, time_us: int) -> None:
        """The actor said it gives up; a later valid step within the window takes that back."""
        self._take(actor, chain.pack(time_us, chain.ABANDON))

    def advance(self, as_of_us: int, running_us: int) -> None:
        """Let time pass: windows close by `as_of_us`, actors leave by `running_us`.

        running_us stands still while the log is not being written, so that events which waited
        through an outage still find their actors.
        """
        before_us, self._as_of_us = self._as_of_us, as_of_us
        self._running_us = running_us
        self._rings.advance(as_of_us)
        while self._open and self._open[0][0] < as_of_us:
            self._close(*heappop(self._open), before_us)
        while self._leaving and self._leaving[0][0] <= running_us:
            self._leave(*heappop(self._leaving))

    def prepare(self) -> Iterator[None]:
        """See Rings.prepare."""
        yield from self._rings.prepare()

    def window(self, window_us: int | None) -> FunnelCell:
        """The figures of a window (see Rings.window). Not to be changed."""
        return self._rings.window(window_us)

    def __len__(self) -> int:
        """How many actors are held."""
        return len(self._actors)

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Rows of a checkpoint, without `late` and `evicted`."""
        yield from self._rings.dump()
        for number, data in write_actors(self._actors):
            yield _ACTORS, number, data

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump(); loaded() follows the last."""
        if section != _ACTORS:
            self._rings.load(section, bucket, data)
            return
        for key, actor in read_actors(data):
            self._actors[key] = actor

    def loaded(self) -> None:
        """All rows are back; advance() to the moment they were of comes next."""
        for key, actor in self._actors.items():
            if actor.due_us is not None:
                heappush(self._open, (actor.due_us, key))
            if actor.expires_us is not None:
                heappush(self._leaving, (actor.expires_us, key))

    def _take(self, key: str, event: int) -> None:
        actor = self._actors.get(key)
        if actor is None:
            if len(self._actors) >= self._max_actors:
                self._evict()
            actor = self._actors[key] = Actor(array("q", (event,)))
            before = self._nothing
            after = chain.run(before, actor.events, self.window_us)
        else:
            base = actor.base or self._nothing
            if actor.base is not None and event < actor.newest_folded:
                self.late += 1
                return
            events = actor.events
            before = chain.run(base, events, self.window_us)
            if event >= events[-1]:
                events.append(event)
                after = chain.run(before, (event,), self.window_us)
                after = after._replace(unmatched=before.unmatched + after.unmatched)
            else:
                events.insert(bisect_right(events, event), event)
                after = chain.run(base, events, self.window_us)
            if len(events) > MAX_EVENTS:
                actor.newest_folded = events.pop(0)
                actor.base = chain.run(base, (actor.newest_folded,), self.window_us)
        if not actor.ahead and chain.unpack(event)[0] > self._as_of_us + AHEAD_US:
            self._count(actor, before, self._nothing)
            actor.ahead = True
            before = self._nothing
        self._count(actor, before, after)
        self._schedule(key, actor, after.best)

    def _count(self, actor: Actor, before: Outcome, after: Outcome) -> None:
        """Correct the slots by what the actor's outcome has changed."""
        old, new = before.best, after.best
        if old != new:
            shared = len(old) if old == new[: len(old)] else 0
            if old and not shared:
                self._add(actor, old, 0, -1)
            if new:
                self._add(actor, new, shared, 1)
        gone_before, gone_after = self._gone(before), self._gone(after)
        if gone_before and (not gone_after or old[0] != new[0]):
            self._add_abandoned(actor, old, -1)
        if gone_after and (not gone_before or old[0] != new[0]):
            self._add_abandoned(actor, new, 1)
        if before.unmatched != after.unmatched:
            self._add_unmatched(actor, before.unmatched, -1)
            self._add_unmatched(actor, after.unmatched, 1)

    def _gone(self, outcome: Outcome) -> bool:
        """Whether an actor counts as abandoned."""
        best = outcome.best
        return 0 < len(best) < len(self.steps) and (
            outcome.abandoned or best[0] + self.window_us < self._as_of_us
        )

    def _cells(self, actor: Actor, time_us: int) -> tuple[FunnelCell, ...]:
        return (self._rings.total,) if actor.ahead else self._rings.at(time_us)

    def _add(self, actor: Actor, best: Chain, from_step: int, sign: int) -> None:
        for cell in self._cells(actor, best[0]):
            cell.add_chain(best, from_step, sign)

    def _add_abandoned(self, actor: Actor, best: Chain, sign: int) -> None:
        for cell in self._cells(actor, best[0]):
            cell.abandoned += sign

    def _add_unmatched(self, actor: Actor, events: tuple[int, ...], sign: int) -> None:
        for time_us, step in map(chain.unpack, events):
            for cell in self._cells(actor, time_us):
                cell.unmatched[step] += sign

    def _schedule(self, key: str, actor: Actor, best: Chain) -> None:
        """See to it that the actor's window closes, and that it leaves."""
        if best and (due_us := best[0] + self.window_us) >= self._as_of_us:
            if actor.due_us is None or due_us < actor.due_us:
                actor.due_us = due_us
                heappush(self._open, (due_us, key))
        elif actor.due_us is None and actor.expires_us is None:
            self._release(key, actor)

    def _release(self, key: str, actor: Actor) -> None:
        actor.expires_us = self._running_us + LATENESS_US
        heappush(self._leaving, (actor.expires_us, key))

    def _close(self, due_us: int, key: str, before_us: int) -> None:
        """The window of an actor may have closed since before_us; newer entries replace older."""
        actor = self._actors.get(key)
        if actor is None or actor.due_us != due_us:
            return
        actor.due_us = None
        outcome = chain.run(actor.base or self._nothing, actor.events, self.window_us)
        best = outcome.best
        closes_us = best[0] + self.window_us
        if closes_us >= self._as_of_us:
            self._schedule(key, actor, best)
            return
        if closes_us >= before_us and len(best) < len(self.steps) and not outcome.abandoned:
            self._add_abandoned(actor, best, 1)
        self._release(key, actor)

    def _leave(self, expires_us: int, key: str) -> None:
        actor = self._actors.get(key)
        if actor is None or actor.expires_us != expires_us:
            return
        if actor.due_us is None:
            del self._actors[key]
        else:
            actor.expires_us = None

    def _evict(self) -> None:
        """Let one actor go before its time: the next to leave, else the next to close."""
        size = len(self._actors)
        while self._leaving and len(self._actors) == size:
            self._leave(*heappop(self._leaving))
        while self._open and len(self._actors) == size:
            due_us, key = heappop(self._open)
            actor = self._actors.get(key)
            if actor is None or actor.due_us != due_us:
                continue
            outcome = chain.run(actor.base or self._nothing, actor.events, self.window_us)
            if len(outcome.best) < len(self.steps) and not self._gone(outcome):
                self._add_abandoned(actor, outcome.best, 1)
            del self._actors[key]
        self.evicted += 1
