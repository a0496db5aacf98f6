"""The outcome of an actor's events in an ordered funnel: the latest chain per step is kept, so one
pass over the events finds the longest chain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

MAX_STEPS: Final = 10
# An abandonment; sorts after every step of the same time.
ABANDON: Final = 15

_SLOT_BITS: Final = 6
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1
_CODE_BITS: Final = 4
_CODE_MASK: Final = (1 << _CODE_BITS) - 1
_TIME_SHIFT: Final = _SLOT_BITS + _CODE_BITS

# The package of an event, as a number among those of its actor: none; one of those that have no
# number of their own; and how many have one.
NO_PACKAGE: Final = _SLOT_MASK
OTHER_PACKAGES: Final = NO_PACKAGE - 1
MAX_PACKAGES: Final = OTHER_PACKAGES

# The times of a chain's steps, first to furthest; empty for none.
Chain = tuple[int, ...]


class Outcome(NamedTuple):
    """The result of an actor's events.

    chains: for each step, the latest chain that reached it. best: the longest; of equally long ones
    the first, but of chains of one step the newest. abandoned: an abandonment came after the last
    valid step. unmatched: packed events that extended no chain.
    """

    chains: tuple[Chain, ...]
    best: Chain
    abandoned: bool
    unmatched: tuple[int, ...]


class Change(NamedTuple):
    """The difference of two outcomes: their best chains, how many of their first steps are the
    same, and whether the actor counted as abandoned, and does now.
    """

    old: Chain
    new: Chain
    shared: int
    gone_before: bool
    gone_after: bool


def pack(time_us: int, code: int, package: int = NO_PACKAGE) -> int:
    """Return an event as one integer that sorts by time, then by step; it has 63 bits."""
    return time_us << _TIME_SHIFT | code << _SLOT_BITS | package


def unpack(event: int) -> tuple[int, int]:
    """Return (time_us, code) of a packed event."""
    return event >> _TIME_SHIFT, event >> _SLOT_BITS & _CODE_MASK


def package_of(event: int) -> int:
    """Return the number of the package of a packed event."""
    return event & _SLOT_MASK


def nothing(steps: int) -> Outcome:
    """Return the outcome of no event."""
    return Outcome(((),) * steps, (), False, ())


def run(base: Outcome, events: Iterable[int], window_us: int) -> Outcome:
    """Return the outcome of packed, sorted `events` that follow those of `base`, whose unmatched
    events are left out.
    """
    outcome = base._replace(unmatched=()) if base.unmatched else base
    for event in events:
        outcome = extended(outcome, event, window_us)
    return outcome


def extended(before: Outcome, event: int, window_us: int) -> Outcome:
    """Return the outcome with one more event, which sorts after those before; the same object where
    nothing changes.

    A chain may take window_us from its first step, end inclusive. A step without its previous step,
    or after its chain's window, is unmatched. A step that its chain already has counts once.
    """
    chains, best, abandoned, unmatched = before
    code = event >> _SLOT_BITS & _CODE_MASK
    time_us = event >> _TIME_SHIFT
    if code == 0:
        first = (time_us,)
        chains = first, *chains[1:]
        if len(best) <= 1:
            best = first
    elif code == ABANDON:
        if abandoned or not best:
            return before
        return Outcome(chains, best, True, unmatched)
    else:
        previous = chains[code - 1]
        if not previous or time_us - previous[0] > window_us:
            return Outcome(chains, best, abandoned, (*unmatched, event))
        there = chains[code]
        if not there or there[0] != previous[0]:
            there = *previous, time_us
            chains = *chains[:code], there, *chains[code + 1 :]
            if len(there) > len(best):
                best = there
    if abandoned and time_us - best[0] <= window_us:
        abandoned = False
    return Outcome(chains, best, abandoned, unmatched)
