"""Judges what an attack does to others, from the samples of a victim that calls at a fixed rate.

Phases with and without the attack alternate, so that a machine that becomes slower in between does
so for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.sizes import SLOWNESS

MAX_RATIO: Final = 3.0
MAX_ERRORS: Final = 0.01
FLOOR_S: Final = 0.1 * SLOWNESS
"""A p99 below this holds, whatever it was before."""

NEAR_S: Final = 30.0
"""Undisturbed samples count that are at most so much earlier or later than the attack."""


class Sample(NamedTuple):
    """One call of the victim: when it was due, how much later its answer came, whether it is OK."""

    due_s: float
    took_s: float
    ok: bool
    kind: str


class Phase(NamedTuple):
    """From when to when, as time.monotonic() says, and under which attack; empty for none."""

    attack: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attack did to the victim."""

    samples: int
    undisturbed_s: float
    attacked_s: float
    errors: float
    bounded: bool = True

    @property
    def holds(self) -> bool:
        slow = self.bounded and self.attacked_s > max(MAX_RATIO * self.undisturbed_s, FLOOR_S)
        return self.samples > 0 and not slow and self.errors < MAX_ERRORS


def judge(
    attack: str, samples: Sequence[Sample], phases: Sequence[Phase], *, bounded: bool = True
) -> Verdict:
    """Compare the calls that were due under an attack with those that were due near it; only their
    errors are judged where the attack is not `bounded`.
    """
    attacked = [phase for phase in phases if phase.attack == attack]
    begin_s = min(phase.begin_s for phase in attacked) - NEAR_S
    end_s = max(phase.end_s for phase in attacked) + NEAR_S
    quiet = [
        phase
        for phase in phases
        if not phase.attack and phase.end_s > begin_s and phase.begin_s < end_s
    ]
    under = _due_in(samples, attacked)
    without = _due_in(samples, quiet)
    return Verdict(
        len(under),
        p99(without),
        p99(under),
        sum(not sample.ok for sample in under) / len(under) if under else 1.0,
        bounded,
    )


def p99(samples: Sequence[Sample]) -> float:
    """The time within which 99 of 100 answers came; 0 without samples."""
    took_s = sorted(sample.took_s for sample in samples)
    return took_s[int(len(took_s) * 0.99)] if took_s else 0.0


def _due_in(samples: Sequence[Sample], phases: Sequence[Phase]) -> list[Sample]:
    return [
        sample
        for sample in samples
        if any(phase.begin_s <= sample.due_s < phase.end_s for phase in phases)
    ]
