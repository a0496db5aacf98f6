"""Attacks a real pair, and prints for each attack what was tried, what held, and what another
caller felt meanwhile; where that is much, also what a caller of a server of gRPC alone feels under
the same attack. Exit status 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.attacks.judge import Phase, Verdict, bare_phase, judge
from tests.attacks.processes import SERVICES, Strikers, Victims, World, strikers, victims, world
from tests.attacks.scenarios import scenarios
from tests.attacks.stored import BUDGETS, check_stored
from tests.attacks.strike import Attack, Tally
from tests.attacks.table import attacks

ROUNDS: Final = 2
LONGER_ROUNDS: Final = 4
ATTACKED_S: Final = 1.5
UNDISTURBED_S: Final = 0.75
SETTLE_S: Final = 10.0
"""By when the calls are answered that waited during an attack: the next phase begins after them."""

# Health says at once what it sees, so that a run need not wait until it recovers.
DWELLS: Final = {
    f"{side}_HEALTH_{dwell}_S": "0"
    for side in ("BOOKING", "METRICS")
    for dwell in ("UP_AFTER", "GAP")
}
ROWS_FOR_EVER: Final = 18
MAX_RSS_BYTES: Final = 500_000_000
MAX_GROWTH_BYTES: Final = 100_000_000
MAX_LOG_BYTES: Final = 300_000
"""Of both services, in one attack."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one attack; without a verdict nobody else was measured."""

    row: int
    name: str
    tally: Tally
    verdict: Verdict | None = None

    @property
    def held(self) -> bool:
        return not self.tally.failed and (self.verdict is None or self.verdict.holds)

    def __str__(self) -> str:
        tally, verdict = self.tally, self.verdict
        felt = ""
        if verdict is not None:
            bare = f"{verdict.bare_s * 1e3:.0f}" if verdict.bare_s else ""
            felt = (
                f"{verdict.undisturbed_s * 1e3:>6.0f} {verdict.attacked_s * 1e3:>6.0f} {bare:>6} "
                f"{verdict.errors:>6.1%}"
            )
        line = (
            f"{self.row:>3}  {self.name:<58.58} {tally.tried:>8,} {tally.tried - tally.failed:>8,} "
            f"{felt:<27} {'held' if self.held else 'DID NOT HOLD'}"
        )
        return "\n".join([line.rstrip(), *(f"       {each}" for each in tally.said)])


HEADER: Final = (
    f"{'':>3}  {'':<58} {'':>8} {'':>8}    p99 of another\n"
    f"{'row':>3}  {'attack':<58} {'tried':>8} {'held':>8} {'quiet':>6} {'under':>6} {'bare':>6} "
    f"{'errors':>6}"
)


class Run:
    """Runs attacks one after the other, in phases with and without."""

    def __init__(
        self,
        attacked: World,
        victim: Victims,
        striker: Strikers,
        *,
        errors_only: bool,
        bare: bool = False,
    ) -> None:
        self._world = attacked
        self._victim = victim
        self._striker = striker
        self._errors_only = errors_only
        self._bare = bare
        self._phases: list[Phase] = []

    def attack(self, number: int, attack: Attack) -> Result:
        """Run one attack. Where others felt it, it counts what a longer run says, with the same
        attack on the bare server in turn.
        """
        tally, verdict = self._rounds(number, attack, attack.name, ROUNDS, bare=self._bare)
        if not verdict.holds:
            name = f"{attack.name}, again"
            again, verdict = self._rounds(number, attack, name, LONGER_ROUNDS, bare=True)
            tally.add(again)
        return Result(attack.row, attack.name, tally, verdict)

    def _rounds(
        self, number: int, attack: Attack, name: str, rounds: int, *, bare: bool
    ) -> tuple[Tally, Verdict]:
        tally = Tally()
        rss = {service: self._world.rss_bytes(service) for service in SERVICES}
        log_bytes = self._world.log_bytes()
        for _ in range(rounds):
            self._phase("", UNDISTURBED_S)
            self._striker.begin(number)
            self._phase(name, ATTACKED_S)
            tally.add(self._striker.end())
            self._victim.settle(SETTLE_S)
            if bare and attack.bare:
                self._striker.begin(number, bare=True)
                self._phase(bare_phase(name), ATTACKED_S)
                # What does not hold there is nothing of ours.
                self._striker.end()
                self._victim.settle(SETTLE_S)
        for service in SERVICES:
            tally.check(self._world.alive(service), f"{service} has ended")
            now = self._world.rss_bytes(service)
            grown = now - rss[service]
            tally.check(
                now < MAX_RSS_BYTES and grown < MAX_GROWTH_BYTES,
                f"{service} has {now / 1e6:.0f} MB, {grown / 1e6:.0f} more than before",
            )
        written = self._world.log_bytes() - log_bytes
        tally.check(written < MAX_LOG_BYTES, f"{written / 1e3:.0f} kB of log were written")
        if attack.row == ROWS_FOR_EVER:
            check_stored(self._world, tally)
        return tally, judge(
            name,
            list(self._victim.samples),
            self._phases,
            of_bare=list(self._victim.of_bare),
            bounded=not self._errors_only,
        )

    def _phase(self, attack: str, seconds: float) -> None:
        begin_s = time.monotonic()
        time.sleep(seconds)
        self._phases.append(Phase(attack, begin_s, time.monotonic()))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make test-attacks", description=__doc__)
    parser.add_argument("--rows", help="rows of the table, such as 4,16; all where none is named")
    parser.add_argument(
        "--errors-only",
        action="store_true",
        help="do not judge p99, as on a machine that does other work too",
    )
    parser.add_argument(
        "--bare", action="store_true", help="attack the server of gRPC alone in any case"
    )
    options = parser.parse_args(arguments)
    rows = {int(row) for row in options.rows.split(",")} if options.rows else None
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        print(result, flush=True)

    begun_s = time.monotonic()
    print(HEADER)
    with world(**DWELLS, **BUDGETS) as attacked:
        with victims(attacked.at) as victim, strikers(attacked.at) as striker:
            assert victim.wait_first(60), attacked.pair.log("booking_service")
            time.sleep(2 * UNDISTURBED_S)
            run = Run(
                attacked,
                victim,
                striker,
                errors_only=options.errors_only,
                bare=options.bare,
            )
            for number, attack in enumerate(attacks()):
                if rows is None or attack.row in rows:
                    done(run.attack(number, attack))
        for scenario in scenarios():
            if rows is None or scenario.row in rows:
                done(Result(scenario.row, scenario.name, scenario.run(attacked)))
    held = [result for result in results if result.held]
    print(
        f"\n{len(results)} attacks, {len(held)} held, "
        f"{sum(result.tally.tried for result in results):,} tries, "
        f"{time.monotonic() - begun_s:.0f} s"
    )
    return 0 if len(held) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
