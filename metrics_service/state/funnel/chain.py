"""What an actor's events come to in an ordered funnel: for each step the latest chain that reached
it is kept, which finds the longest chain in one pass over the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MAX_STEPS = 10
# Said so; sorts after every step of the same time.
ABANDON = 15

_CODE_BITS = 4
_CODE_MASK = (1 << _CODE_BITS) - 1

# The times of a chain's steps, first to furthest; empty for none.
Chain = tuple[int, ...]


class Outcome(NamedTuple):
    """Where an actor stands.

    chains: for each step, the latest chain that reached it. best: the furthest; the first to get
    there, but at the first step the newest. abandoned: said so, and not taken back by a later
    valid step. unmatched: packed events that extended no chain.
    """

    chains: tuple[Chain, ...]
    best: Chain
    abandoned: bool
    unmatched: tuple[int, ...]


def pack(time_us: int, code: int) -> int:
    """An event as one integer that sorts by time, then by step."""
    return time_us << _CODE_BITS | code


def unpack(event: int) -> tuple[int, int]:
    """(time_us, code) of a packed event."""
    return event >> _CODE_BITS, event & _CODE_MASK


def nothing(steps: int) -> Outcome:
    """The outcome of no event."""
    return Outcome(((),) * steps, (), False, ())


def run(base: Outcome, events: Iterable[int], window_us: int) -> Outcome:
    """The outcome of packed, sorted `events` after those that came to `base`.

    A chain may take window_us from its first step, end inclusive. A step before which the step
    before it is missing, or whose chain's window is over, is unmatched. A step that its chain has
    already counts once.
    """
    chains = list(base.chains)
    best = base.best
    abandoned = base.abandoned
    unmatched: list[int] = []
    for event in events:
        code = event & _CODE_MASK
        time_us = event >> _CODE_BITS
        if code == 0:
            chains[0] = (time_us,)
            if len(best) <= 1:
                best = chains[0]
        elif code == ABANDON:
            abandoned = bool(best)
            continue
        else:
            before = chains[code - 1]
            if not before or time_us - before[0] > window_us:
                unmatched.append(event)
                continue
            there = chains[code]
            if not there or there[0] != before[0]:
                chains[code] = there = (*before, time_us)
                if len(there) > len(best):
                    best = there
        if abandoned and time_us - best[0] <= window_us:
            abandoned = False
    return Outcome(tuple(chains), best, abandoned, tuple(unmatched))
