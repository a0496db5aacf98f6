"""The chains of an actor by package: (actor, package) is the actor of a breakdown, so that both
numbers of a rate have the same one.
"""

from __future__ import annotations

from collections.abc import Iterator

from metrics_service.state.breakdown.breakdown import BreakdownFold
from metrics_service.state.breakdown.cell import ABANDONED, REACHED
from metrics_service.state.breakdown.packages import OTHER_GROUP, Group, Groups
from metrics_service.state.funnel import chain
from metrics_service.state.funnel.actors import Actor
from metrics_service.state.funnel.chain import NO_PACKAGE, OTHER_PACKAGES, Change, Outcome


class PackageParts:
    """Counts the chains of actors by package, from the events that the actors keep anyway.

    An actor with one package has one chain for both. An actor with several is `mixed`: the outcome
    of the older events of each package is kept beside that of all. An event without a package
    belongs to that of the step before, if that is known, else to none.
    """

    def __init__(self, breakdown: BreakdownFold | None, steps: int, window_us: int) -> None:
        self.as_of_us = 0
        self._breakdown = breakdown
        self._steps = steps
        self._window_us = window_us
        self._nothing = chain.nothing(steps)

    def number(self, actor: Actor, code: int, groups: Groups) -> int:
        """Return the number of the package of an event that the actor is to keep."""
        if self._breakdown is None:
            return NO_PACKAGE
        if not groups:
            return _number_before(actor, code)
        for number, group in enumerate(actor.groups):
            if group is groups[0] or group.package == groups[0].package:
                return number
        if len(actor.groups) >= chain.MAX_PACKAGES:
            return OTHER_PACKAGES
        actor.groups = actor.groups + groups if actor.groups else groups
        return len(actor.groups) - 1

    def mix(self, actor: Actor, number: int) -> bool:
        """Return whether the actor has events of several packages, with one of this number."""
        if not actor.mixed and (first := chain.package_of(actor.events[0])) != number:
            actor.mixed = True
            if actor.base is not None:
                actor.bases = {first: actor.base}
        return actor.mixed

    def outcome(self, actor: Actor, number: int) -> Outcome:
        """Return the outcome of the events of one package of a mixed actor."""
        base = actor.bases.get(number, self._nothing) if actor.bases else self._nothing
        events = [event for event in actor.events if chain.package_of(event) == number]
        return chain.run(base, events, self._window_us)

    def fold(self, actor: Actor, event: int) -> None:
        """Add an event that a mixed actor no longer keeps to the outcome of its package."""
        number = chain.package_of(event)
        bases = actor.bases = actor.bases or {}
        bases[number] = chain.run(bases.get(number, self._nothing), (event,), self._window_us)

    def outcomes(self, actor: Actor, whole: Outcome) -> Iterator[tuple[int, Outcome]]:
        """Yield number and outcome of each package of an actor; `whole` is the actor's outcome."""
        if not actor.mixed:
            yield chain.package_of(actor.events[0]), whole
            return
        numbers = {chain.package_of(event) for event in actor.events} | (actor.bases or {}).keys()
        for number in sorted(numbers):
            yield number, self.outcome(actor, number)

    def change(self, before: Outcome, after: Outcome) -> Change | None:
        """Return the difference of two outcomes; None where nothing is counted otherwise."""
        old, new = before.best, after.best
        if old is new and before.abandoned == after.abandoned:
            return None
        shared = len(old) if old == new[: len(old)] else 0
        return Change(old, new, shared, self.gone(before), self.gone(after))

    def count(self, actor: Actor, number: int, change: Change | None) -> None:
        """Correct the counters of a package."""
        breakdown = self._breakdown
        if change is None or number == NO_PACKAGE or breakdown is None:
            return
        group, ahead = _group(actor, number), actor.ahead
        old, new, shared, gone_before, gone_after = change
        if old is not new:
            if not shared:
                for step in range(len(old)):
                    breakdown.count(group, REACHED + step, -1, old[0], ahead=ahead)
            for step in range(shared, len(new)):
                breakdown.count(group, REACHED + step, 1, new[0], ahead=ahead)
        if gone_before and (not gone_after or old[0] != new[0]):
            breakdown.count(group, ABANDONED, -1, old[0], ahead=ahead)
        if gone_after and (not gone_before or old[0] != new[0]):
            breakdown.count(group, ABANDONED, 1, new[0], ahead=ahead)

    def go_ahead(self, actor: Actor, whole: Outcome, number: int, before: Outcome) -> None:
        """Count an actor in the figures of all times only; not yet the package of this number, of
        which `before` was counted.
        """
        parts = [part for part in self.outcomes(actor, whole) if part[0] != number]
        self.count(actor, number, self.change(before, self._nothing))
        for each, outcome in parts:
            self.count(actor, each, self.change(outcome, self._nothing))
        actor.ahead = True
        for each, outcome in parts:
            self.count(actor, each, self.change(self._nothing, outcome))

    def add_abandoned(self, actor: Actor, number: int, time_us: int, sign: int) -> None:
        """Count that the actor gave up a package, in the slot of its start."""
        if number != NO_PACKAGE and self._breakdown is not None:
            group = _group(actor, number)
            self._breakdown.count(group, ABANDONED, sign, time_us, ahead=actor.ahead)

    def gone(self, outcome: Outcome) -> bool:
        """Return whether an outcome counts as abandoned now."""
        best = outcome.best
        return 0 < len(best) < self._steps and (
            outcome.abandoned or best[0] + self._window_us < self.as_of_us
        )

    def closed(self, outcome: Outcome, before_us: int, later: list[chain.Chain]) -> bool:
        """Return whether a window closed since before_us without a conversion; one that is still to
        close is added to `later`.
        """
        best = outcome.best
        if not best:
            return False
        closes_us = best[0] + self._window_us
        if closes_us >= self.as_of_us:
            later.append(best)
            return False
        return closes_us >= before_us and len(best) < self._steps and not outcome.abandoned


def _group(actor: Actor, number: int) -> Group:
    return OTHER_GROUP if number == OTHER_PACKAGES else actor.groups[number]


def _number_before(actor: Actor, code: int) -> int:
    for event in reversed(actor.events):
        number = chain.package_of(event)
        if number != NO_PACKAGE and code in (chain.ABANDON, chain.unpack(event)[1] + 1):
            return number
    return NO_PACKAGE
