"""Finds rules that contradict each other, or the figures that they call good, and explains how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import prod
from typing import Final

from metrics_service.alerts.model import Rule

STEPS: Final = ("view_to_start", "start_to_complete", "complete_to_confirm")
OVERALL: Final = "overall_conversion"

MAX_CHANCE: Final = 0.001
"""Of no conversion at all at the lower end of the good range, for which a rule fires at once."""

Contradiction = tuple[int, str, str]


def contradictions(rules: Sequence[Rule]) -> Iterator[Contradiction]:
    """Yield (line, name of the rule, explanation)."""
    for rule in rules:
        for message in _of_one(rule):
            yield rule.line_number, rule.name, message
    yield from _of_severities(rules)
    yield from _of_steps(rules)
    yield from _of_abandonment(rules)
    yield from _of_inhibition(rules)


def _of_one(rule: Rule) -> Iterator[str]:
    if rule.good is None:
        return
    low, high = rule.good
    below = rule.comparison == "below"
    if (below and rule.line > low) or (not below and rule.line < high):
        yield f"fires within its good range: the line {rule.line:g} is within {low:g} to {high:g}"
    elif (below and rule.resolve > low) or (not below and rule.resolve < high):
        yield f"goes on within its good range: it ends at {rule.resolve:g} only"
    chance = (1 - min(low, 1.0)) ** rule.none_of if below and rule.none_of else 0.0
    if chance > MAX_CHANCE:
        yield (
            f"none_of = {rule.none_of} fires by chance: at the lower end of its good range none of"
            f" {rule.none_of} converts in {chance:.1%} of cases"
        )


def _of_severities(rules: Sequence[Rule]) -> Iterator[Contradiction]:
    ranks = {"info": 0, "warning": 1, "critical": 2}
    for first, second in combinations(rules, 2):
        if (first.metric, first.comparison, first.windows_us) != (
            second.metric,
            second.comparison,
            second.windows_us,
        ):
            continue
        milder, graver = sorted((first, second), key=lambda rule: ranks[rule.severity])
        sign = 1 if milder.comparison == "below" else -1
        if milder.severity != graver.severity and sign * (graver.line - milder.line) >= 0:
            yield (
                milder.line_number,
                milder.name,
                f"never warns before the {graver.severity} rule in line {graver.line_number}: its"
                f" line {milder.line:g} is not reached before {graver.line:g}",
            )


def _of_steps(rules: Sequence[Rule]) -> Iterator[Contradiction]:
    lines = {rule.metric: rule for rule in rules if rule.comparison == "below"}
    if not {*STEPS, OVERALL} <= lines.keys():
        return
    steps, overall = [lines[name] for name in STEPS], lines[OVERALL]
    product = prod(rule.line for rule in steps)
    factors = " x ".join(f"{rule.line:.0%}" for rule in steps)
    if product < overall.line:
        yield (
            overall.line_number,
            overall.name,
            f"the lines of the steps multiply to less than its line, {factors} = {product:.1%} and"
            f" {overall.line:.0%}: where all steps worsen alike it fires first, and no step may",
        )
    if overall.good and all(rule.good for rule in steps):
        low = prod(rule.good[0] for rule in steps if rule.good)
        high = prod(rule.good[1] for rule in steps if rule.good)
        if low < overall.good[0] or high > overall.good[1]:
            yield (
                overall.line_number,
                overall.name,
                f"the good ranges of the steps multiply to {low:.0%} to {high:.0%}, its own is"
                f" {overall.good[0]:.0%} to {overall.good[1]:.0%}: all steps may be good and the"
                " whole is not",
            )


def _of_abandonment(rules: Sequence[Rule]) -> Iterator[Contradiction]:
    lines = {rule.metric: rule for rule in rules}
    abandonment, complete = lines.get("form_abandonment"), lines.get("start_to_complete")
    if abandonment is None or complete is None or abandonment.line + complete.line >= 1:
        return
    yield (
        abandonment.line_number,
        abandonment.name,
        f"counts those who gave up or let their hold lapse: if all that do not complete are such,"
        f" it fires below {1 - abandonment.line:.0%} completing, and {complete.name} at"
        f" {complete.line:.0%} only repeats it",
    )


def _of_inhibition(rules: Sequence[Rule]) -> Iterator[Contradiction]:
    by = {rule.name: set(rule.inhibited_by) for rule in rules}
    for rule in rules:
        for other in rule.inhibited_by:
            if rule.name in by.get(other, ()):
                yield (
                    rule.line_number,
                    rule.name,
                    f"{rule.name} and {other} hold each other back: where both fire nobody is told",
                )
