"""How an attack is judged by the calls of another, and how fast an attack goes on."""

from __future__ import annotations

import pytest

from tests.attacks.judge import Phase, Sample, bare_phase, judge, p99
from tests.attacks.scenarios import scenarios
from tests.attacks.strike import Addresses, Strike, Tally
from tests.attacks.table import attacks

ROWS = set(range(1, 21))
QUIET = Phase("", 0.0, 1.0)
UNDER = Phase("a", 1.0, 2.0)


def samples(begin_s: float, took_s: float, *, ok: bool = True, number: int = 100) -> list[Sample]:
    return [Sample(begin_s + at / number, took_s, ok, "S") for at in range(number)]


def test_every_row_is_tried_in_several_variants() -> None:
    tried = [each.row for each in attacks()]
    assert {*tried, *(each.row for each in scenarios())} == ROWS
    assert min(tried.count(row) for row in tried) >= 3
    assert len({each.name for each in attacks()}) == len(tried)


def test_a_p99_leaves_out_the_slowest_of_a_hundred() -> None:
    assert p99([*samples(0, 0.01, number=99), Sample(0, 9.0, True, "S")]) == 9.0
    assert p99([*samples(0, 0.01, number=199), Sample(0, 9.0, True, "S")]) == 0.01
    assert p99([]) == 0.0


@pytest.mark.parametrize(
    ("undisturbed_s", "attacked_s", "holds"),
    [
        (1.0, 2.9, True),
        (1.0, 3.1, False),
        (0.001, 0.0031, False),
    ],
)
def test_an_attack_holds_up_to_three_times_the_undisturbed(
    undisturbed_s: float, attacked_s: float, holds: bool
) -> None:
    verdict = judge("a", [*samples(0, undisturbed_s), *samples(1, attacked_s)], [QUIET, UNDER])
    assert (verdict.samples, verdict.undisturbed_s, verdict.attacked_s) == (
        *(100, undisturbed_s),
        attacked_s,
    )
    assert verdict.holds is holds


@pytest.mark.parametrize(("attacked_s", "holds"), [(0.29, True), (0.31, False)])
def test_an_attack_holds_up_to_three_times_what_the_bare_server_does_to_its_callers(
    attacked_s: float, holds: bool
) -> None:
    found = [*samples(0, 0.01), *samples(1, attacked_s)]
    # Those that the bare server answers while the pair is attacked do not count.
    of_bare = [*samples(1, 9.0), *samples(2, 0.1)]
    phases = [QUIET, UNDER, Phase(bare_phase("a"), 2.0, 3.0)]
    verdict = judge("a", found, phases, of_bare=of_bare)
    assert (verdict.bare_s, verdict.holds) == (0.1, holds)


def test_one_error_of_a_hundred_does_not_hold() -> None:
    good = [*samples(0, 0.01), *samples(1, 0.01, number=198)]
    assert judge("a", [*good, Sample(1.5, 0.01, False, "S")], [QUIET, UNDER]).holds
    bad = [Sample(1.5, 0.01, False, "S"), Sample(1.6, 0.01, False, "S")]
    assert not judge("a", [*good, *bad], [QUIET, UNDER]).holds


def test_only_undisturbed_phases_near_the_attack_count() -> None:
    far = Phase("", 100.0, 101.0)
    other = Phase("b", 2.0, 3.0)
    found = [*samples(0, 0.01), *samples(1, 0.02), *samples(2, 0.5), *samples(100, 0.7)]
    verdict = judge("a", found, [QUIET, UNDER, other, far])
    assert (verdict.undisturbed_s, verdict.attacked_s) == (0.01, 0.02)


def test_without_a_sample_nothing_holds() -> None:
    assert not judge("a", samples(0, 0.01), [QUIET, UNDER]).holds


async def test_an_attack_is_paced_until_it_is_stopped() -> None:
    strike = Strike(Addresses("", "", ""))
    numbers = []
    async for number in strike.paced(1_000):
        numbers.append(number)
        if number == 20:
            strike.stop()
    assert numbers == list(range(21))


def test_tallies_add_up_and_say_the_first_failures() -> None:
    tally, other = Tally(), Tally()
    tally.check(True, "")
    for number in range(9):
        other.check(False, f"{number}")
    tally.add(other)
    assert (tally.tried, tally.failed, tally.said) == (10, 9, ["0", "1", "2", "3", "4"])
