"""Judges what an attack does to others, from the samples of a victim that calls at a fixed rate.

Phases with and without the attack alternate, so that a machine that becomes slower in between does
so for both. Where the same attack is made on a server of gRPC alone, in phases between them, what
its callers feel is what no service in Python could avoid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_RATIO: Final = 3.0
"""Of the p99 under an attack to the undisturbed one, or to that of the bare server's callers under
the same attack where that is more.
"""

MAX_ERRORS: Final = 0.01

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
    """What an attack did to the victim. `bare_s` is the p99 of the bare server's callers under it,
    0 where that was not measured; the p99 are not judged where they are not `bounded`.
    """

    samples: int
    undisturbed_s: float
    attacked_s: float
    errors: float
    bare_s: float = 0.0
    bounded: bool = True

    @property
    def holds(self) -> bool:
        slow = self.attacked_s > MAX_RATIO * max(self.undisturbed_s, self.bare_s)
        return self.samples > 0 and not (self.bounded and slow) and self.errors < MAX_ERRORS


def judge(
    attack: str,
    samples: Sequence[Sample],
    phases: Sequence[Phase],
    *,
    of_bare: Sequence[Sample] = (),
    bounded: bool = True,
) -> Verdict:
    """Compare the calls that were due under an attack with those that were due near it, and with
    those of the bare server that were due while it was attacked likewise.
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
    bare = _due_in(of_bare, [phase for phase in phases if phase.attack == bare_phase(attack)])
    without = _due_in(samples, quiet)
    return Verdict(
        len(under),
        p99(without),
        p99(under),
        sum(not sample.ok for sample in under) / len(under) if under else 1.0,
        p99(bare),
        bounded,
    )


def bare_phase(attack: str) -> str:
    """The name of a phase in which the bare server is attacked."""
    return f"{attack}, on the bare server"


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
