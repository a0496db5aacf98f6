"""The funnel: every actor that entered counts in exactly one slot, that of the start of its best
chain, and is exactly one of converted, abandoned and open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final

from metrics_service.state.breakdown.breakdown import BreakdownFold
from metrics_service.state.breakdown.packages import Group, Groups
from metrics_service.state.funnel import chain
from metrics_service.state.funnel.actors import Actor, read_actors, write_actors
from metrics_service.state.funnel.cell import FunnelCell, counts_of
from metrics_service.state.funnel.chain import Chain, Outcome
from metrics_service.state.funnel.parts import PackageParts
from metrics_service.state.funnel.slots import TABLE, FunnelSlots
from metrics_service.state.funnel.unmatched import Unmatched
from metrics_service.state.series.rings import MINUTE_US, Rings

STEPS: Final = ("view", "start", "complete", "confirm")
WINDOW_US: Final = 30 * MINUTE_US
# How long an actor is kept for late events after its window has closed.
MAX_LATENESS_US: Final = 10 * MINUTE_US
MATURES_US: Final = WINDOW_US + MAX_LATENESS_US
"""How long after its end a slot has matured: the actors in it had their whole time."""
# Events of an actor among which a late one can still be sorted.
MAX_EVENTS: Final = 16
MAX_ACTORS: Final = 250_000
# An actor with an event further ahead of now than this counts in the figures of all times only:
# rings hold no slot for it yet, so a later correction could not be applied there.
MAX_AHEAD_US: Final = 30 * MINUTE_US

MAX_RECENT: Final = 2_000
"""Actors of the newest events whose outcomes are at hand for the next event."""

_ACTORS: Final = f"{TABLE}.actors"


class FunnelFold:
    """An ordered funnel of 1 to 10 steps, whose chains may take `window_us`, end inclusive.

    An actor consists of its newest events, sorted by time and step, and the outcome of the older
    ones. Its figures follow from these alone, so the order of arrival within the newest events does
    not matter. An event older than the newest one in the outcome is `late` and changes nothing.

    Memory: at most `max_actors`, about 500 bytes each. Beyond that the actor next to leave is
    settled early and counted in `evicted`.
    """

    tables = (TABLE,)

    def __init__(
        self,
        steps: Sequence[str] = STEPS,
        window_us: int = WINDOW_US,
        *,
        max_actors: int = MAX_ACTORS,
        breakdown: BreakdownFold | None = None,
    ) -> None:
        if not 1 <= len(steps) <= chain.MAX_STEPS:
            raise ValueError(f"a funnel has 1 to {chain.MAX_STEPS} steps, not {len(steps)}")
        self.steps = tuple(steps)
        self.window_us = window_us
        self.counts = counts_of(len(steps))
        self.late = 0
        self.evicted = 0
        self.unmatched = Unmatched(len(steps))
        self._max_actors = max_actors
        self._nothing = chain.nothing(len(steps))
        self._parts = PackageParts(breakdown, len(steps), window_us)
        self._slots = FunnelSlots(len(steps))
        self.on_evicted: Callable[[str, Actor, Outcome], None] = lambda *_: None
        self._actors: dict[str, Actor] = {}
        # By actor, what run() returns of its events.
        self._recent: dict[str, Outcome] = {}
        # While actors are loaded: the groups that they share.
        self._shared: dict[Group, Groups] = {}
        # Heaps of (end of the window, actor) for open actors and (time to leave, actor) for closed
        # ones. An entry that no longer matches its actor is ignored.
        self._open: list[tuple[int, str]] = []
        self._leaving: list[tuple[int, str]] = []
        self._as_of_us = 0
        self._running_us = 0

    @property
    def rings(self) -> Rings[FunnelCell]:
        """The cells, with everything counted so far."""
        return self._slots.rings

    @property
    def month(self) -> Rings[FunnelCell]:
        """The cells; what waits for settle() is not in them yet."""
        return self._slots.month

    def settle(self) -> None:
        """Add what waits to the cells."""
        self._slots.settle()

    def step(self, actor: str, step: int, time_us: int, groups: Groups = ()) -> Outcome | None:
        """Add the event that the actor took a step, 0 for the first, with the group of its package,
        if it has one. Returns what follows for the actor; None if the event came too late to change
        it.
        """
        if not 0 <= step < len(self.steps):
            raise ValueError(f"step {step} of a funnel of {len(self.steps)}")
        return self._take(actor, step, time_us, groups)

    def abandon(self, actor: str, time_us: int, groups: Groups = ()) -> Outcome | None:
        """Add the event that the actor gave up; a later valid step in the window revokes it.
        Returns the same as step().
        """
        return self._take(actor, chain.ABANDON, time_us, groups)

    def actor(self, key: str) -> Actor | None:
        """Return an actor that is held."""
        return self._actors.get(key)

    def advance(self, as_of_us: int, running_us: int) -> None:
        """Advance both clocks: windows close by `as_of_us`, actors leave by `running_us`.

        running_us does not advance while the log is not written, so that events delayed by an
        outage still find their actors.
        """
        before_us, self._as_of_us = self._as_of_us, as_of_us
        self._parts.as_of_us = as_of_us
        self._running_us = running_us
        self._slots.advance(as_of_us)
        while self._open and self._open[0][0] < as_of_us:
            self._close(*heappop(self._open), before_us)
        while self._leaving and self._leaving[0][0] <= running_us:
            self._leave(*heappop(self._leaving))

    def window(self, window_us: int | None, ended_us: int = 0) -> FunnelCell:
        """Return the figures of a window (see Rings.window); callers must not change them."""
        return self.rings.window(window_us, ended_us)

    def __len__(self) -> int:
        """Return the number of actors held."""
        return len(self._actors)

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint, without `late` and `evicted`."""
        yield from self.rings.dump()
        for number, data in write_actors(self._actors):
            yield _ACTORS, number, data

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump(); call loaded() after the last."""
        if section != _ACTORS:
            self.rings.load(section, bucket, data)
            return
        shared = self._shared
        for key, actor in read_actors(data, lambda group: shared.setdefault(group, (group,))):
            self._actors[key] = actor

    def loaded(self) -> None:
        """Finish loading; advance() to the time of the checkpoint must follow."""
        self._shared.clear()
        for key, actor in self._actors.items():
            if actor.due_us is not None:
                heappush(self._open, (actor.due_us, key))
            if actor.expires_us is not None:
                heappush(self._leaving, (actor.expires_us, key))

    def _take(self, key: str, code: int, time_us: int, groups: Groups) -> Outcome | None:
        actor, parts = self._actors.get(key), self._parts
        mixed = False
        if actor is None:
            if len(self._actors) >= self._max_actors:
                self._evict()
            actor = self._actors[key] = Actor()
            number = parts.number(actor, code, groups)
            event = chain.pack(time_us, code, number)
            actor.events.append(event)
            before = part_before = self._nothing
            after = part_after = chain.extended(before, event, self.window_us)
        else:
            base, events = actor.base or self._nothing, actor.events
            number = parts.number(actor, code, groups)
            event = chain.pack(time_us, code, number)
            if actor.base is not None and event < actor.newest_folded:
                self.late += 1
                return None
            mixed = parts.mix(actor, number)
            before = self._recent.get(key) or chain.run(base, events, self.window_us)
            part_before = parts.outcome(actor, number) if mixed else before
            if event >= events[-1]:
                events.append(event)
                after = chain.extended(before, event, self.window_us)
            else:
                events.insert(bisect_right(events, event), event)
                after = chain.run(base, events, self.window_us)
            part_after = parts.outcome(actor, number) if mixed else after
        self._remember(key, actor, after)
        if before.unmatched != after.unmatched:
            self.unmatched.see(before.unmatched, after.unmatched)
        if not actor.ahead and time_us > self._as_of_us + MAX_AHEAD_US:
            if change := parts.change(before, self._nothing):
                self._slots.count(change, ahead=False)
            self._slots.count_unmatched(before.unmatched, (), ahead=False)
            parts.go_ahead(actor, before, number, part_before)
            before = part_before = self._nothing
        change = parts.change(before, after)
        if change is not None:
            self._slots.count(change, ahead=actor.ahead)
        if before.unmatched != after.unmatched:
            self._slots.count_unmatched(before.unmatched, after.unmatched, ahead=actor.ahead)
        parts.count(actor, number, parts.change(part_before, part_after) if mixed else change)
        self._schedule(key, actor, after.best)
        if actor.mixed:
            self._schedule(key, actor, part_after.best)
        return after

    def _remember(self, key: str, actor: Actor, outcome: Outcome) -> None:
        """Keep the outcome for the next event; of many events, add the oldest to the base."""
        recent = self._recent
        if len(actor.events) <= MAX_EVENTS:
            if len(recent) >= MAX_RECENT:
                recent.clear()
            recent[key] = outcome
            return
        recent.pop(key, None)
        actor.newest_folded = actor.events.pop(0)
        folded = (actor.newest_folded,)
        actor.base = chain.run(actor.base or self._nothing, folded, self.window_us)
        if actor.mixed:
            self._parts.fold(actor, actor.newest_folded)

    def _schedule(self, key: str, actor: Actor, best: Chain) -> None:
        """Schedule the closing of the actor's window, and then its leaving."""
        if best and (due_us := best[0] + self.window_us) >= self._as_of_us:
            if actor.due_us is None or due_us < actor.due_us:
                actor.due_us = due_us
                heappush(self._open, (due_us, key))
        elif actor.due_us is None and actor.expires_us is None:
            self._release(key, actor)

    def _release(self, key: str, actor: Actor) -> None:
        actor.expires_us = self._running_us + MAX_LATENESS_US
        heappush(self._leaving, (actor.expires_us, key))

    def _close(self, due_us: int, key: str, before_us: int) -> None:
        """Count an actor as abandoned if its window closed since before_us without a conversion."""
        actor = self._actors.get(key)
        if actor is None or actor.due_us != due_us:
            return
        actor.due_us = None
        outcome = chain.run(actor.base or self._nothing, actor.events, self.window_us)
        later: list[Chain] = []
        if self._parts.closed(outcome, before_us, later):
            self._slots.add_abandoned(outcome.best, 1, ahead=actor.ahead)
        for number, part in self._parts.outcomes(actor, outcome):
            if self._parts.closed(part, before_us, later):
                self._parts.add_abandoned(actor, number, part.best[0], 1)
        for best in later:
            self._schedule(key, actor, best)
        if not later:
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
        """Remove one actor early: the next to leave, else the next to close."""
        size = len(self._actors)
        while self._leaving and len(self._actors) == size:
            self._leave(*heappop(self._leaving))
        while self._open and len(self._actors) == size:
            due_us, key = heappop(self._open)
            actor = self._actors.get(key)
            if actor is None or actor.due_us != due_us:
                continue
            outcome = chain.run(actor.base or self._nothing, actor.events, self.window_us)
            if 0 < len(outcome.best) < len(self.steps) and not self._parts.gone(outcome):
                self._slots.add_abandoned(outcome.best, 1, ahead=actor.ahead)
                self.on_evicted(key, actor, outcome)
            for number, part in self._parts.outcomes(actor, outcome):
                if 0 < len(part.best) < len(self.steps) and not self._parts.gone(part):
                    self._parts.add_abandoned(actor, number, part.best[0], 1)
            del self._actors[key]
        self.evicted += 1
