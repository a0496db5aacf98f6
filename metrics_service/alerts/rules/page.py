"""Writes docs/alerts.md from the rules that are shipped.

Run with `python -m metrics_service.alerts.rules.page`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Final

from metrics_service.alerts.model import Rule
from metrics_service.alerts.rules.load import MAX_RULES, check, shipped
from metrics_service.alerts.rules.metrics import MATURED, METRICS, Kind
from metrics_service.alerts.words import amount, span

WIDTH: Final = 100

_HEAD: Final = """# Alerts

`make docs` writes this page from the rules that are shipped,
`metrics_service/alerts/rules/rules.toml`. `AlertService` lists alerts and streams their
changes, keeps silences, checks a rule file (LintRules) and tries a target (SendTest).

## The rules

"""

_STATES: Final = """## How an alert goes

| state | means |
|---|---|
| pending | the condition holds, for less than the rule's `for` |
| firing | people are told, once |
| recovering | the condition no longer holds, for less than `keep_firing_for` |
| resolved | the value was beyond `resolve`, by default 10% better; people are told, once |
| no_data | an alert of its own: what had data has had none for `no_data_after` |

- Time is that of the log. Rules over figures give the same alerts with the same ids when the
  log is folded again; those marked "signals" are known from heartbeats and live in the tables
  only.
- A value on the line is healthy: exactly 15%, exactly 10 failed queries, an error exactly 300 s
  old.
- A **ratio** is judged by the shortest of its windows that decides. It is bad if Wilson's whole
  95% interval is beyond the line, at `min_samples` or more; good if the interval is on the
  right side, the value is beyond `resolve` and no shorter window has a value beyond the line.
  If no window decides, an alert ends once the value of the longest one is beyond `resolve`.
- A **mean** is judged in the same way, by 1.96 standard errors.
- Rates of the funnel are **matured**: of slots that ended at least 40 minutes ago, conversion
  window and lateness, since sooner those who still fill in the form would count as lost. For
  the same reason an alert of the funnel comes 40 minutes late at the earliest, but for
  `none_of`: no conversion at all of so many who began 10 to 40 minutes ago fires at once, and
  says its n.
- **Without data** nothing fires and nothing is resolved: where nothing has come in the shortest
  window, older windows are not asked.
- `inhibited_by`: while an alert of such a rule fires, this one is shown and not told. A
  critical alert holds back the warning of the same rule and labels.
- At most 200 alerts are kept at once, and of a rule with labels at most `max_alerts`; more are
  counted, and `alerts_overflow` fires.
- The causes that an alert names follow from the figures of its window: what may be wrong with
  the data first, then the step, the packages that miss most conversions, the reasons of errors and
  the slowest queries.
- `make simulate-alerts` prints how often the shipped rules fire in a week while all true rates are
  in the middle of their good ranges, and how soon they fire at half their lines.

## A file of your own

Copy the shipped file, change it, try it with LintRules, and name it in `METRICS_ALERT_RULES`;
SIGHUP reads it again. A file with an error is refused as a whole, with file, line and reason,
and the running rules go on. An alert whose rule judges otherwise ends as "rule changed". A file
has 1 to {rules} rules; no two have the same name and severity.

| key | value | default |
|---|---|---|
| `name` | lower-case letters, digits and _ | must be set |
| `severity` | info, warning, critical | must be set |
| `metric` | one of those below | must be set |
| `below` or `above` | the line, in the metric's unit; exactly one of both | must be set |
| `resolve` | the value at which it ends | 10% better than the line |
| `good` | from and to; for people and for lint | none |
| `windows` | of ratios and means 1 to 3, of counts and percentiles one | must be set |
| `min_samples` | fewer are no data | 10 |
| `none_of` | of a ratio below a line: 0 of so many fires at once | never |
| `for`, `keep_firing_for` | durations such as 30s, 5m, 6h, 2d | 0s |
| `no_data_after` | when missing data is an alert | never |
| `inhibited_by` | names of rules | none |
| `max_alerts` | of a metric with labels: 1 to 100 | 20 |
| `title`, `reason`, `action` | one line each, for people | must be set |

"""

_KINDS: Final[dict[Kind, str]] = {
    "ratio": "ratio",
    "mean": "mean",
    "value": "value over one window",
    "count": "count over one window",
    "exact": "as it is now",
    "own": "as it is now, an alert for each of its labels",
}


def page() -> str:
    """Return the page."""
    checked = check(shipped())
    lines = [
        "| rule | severity | fires when | good | ends when |",
        "|---|---|---|---|---|",
        *(_row(rule) for rule in checked.rules),
    ]
    parts = [_HEAD + "\n".join(lines) + "\n\n"]
    parts += ["\n".join(_section(rule)) + "\n\n" for rule in checked.rules]
    parts.append(_STATES.format(rules=MAX_RULES))
    parts.append("| metric | unit | judged |\n|---|---|---|\n")
    parts += [f"{line}\n" for line in _metrics()]
    parts.append("\n## What lint says of the shipped rules\n\n")
    parts += [
        fill(f"- `{each.rule}` {each.message}.", WIDTH, subsequent_indent="  ") + "\n"
        for each in checked.findings
    ]
    return "".join(parts)


def _row(rule: Rule) -> str:
    unit = METRICS[rule.metric].line_unit
    good = ""
    if rule.good is not None:
        good = " to ".join(_amount(value, rule, unit) for value in rule.good)
    side = "at least" if rule.comparison == "below" else "at most"
    cells = (
        f"[{rule.name}](#{rule.name})",
        rule.severity,
        f"{rule.comparison} {_amount(rule.line, rule, unit)}",
        good,
        f"{side} {_amount(rule.resolve, rule, unit)}",
    )
    return f"| {' | '.join(cells)} |"


def _section(rule: Rule) -> Iterator[str]:
    metric = METRICS[rule.metric]
    yield f"### {rule.name}"
    yield ""
    yield fill(f"{rule.title}. {rule.reason}", WIDTH)
    yield ""
    yield fill(f"Do: {rule.action}", WIDTH)
    yield ""
    facts = [f"metric `{rule.metric}`"]
    if rule.metric in MATURED:
        facts.append("matured")
    if metric.signals:
        facts.append("signals")
    if rule.windows_us:
        facts.append(f"windows {', '.join(map(span, rule.windows_us))}")
        facts.append(f"from {rule.min_samples} samples on")
    if rule.none_of:
        facts.append(f"at once at 0 of {rule.none_of}")
    if rule.for_us:
        facts.append(f"for {span(rule.for_us)}")
    if rule.keep_firing_for_us:
        facts.append(f"keep firing for {span(rule.keep_firing_for_us)}")
    if rule.no_data_after_us:
        facts.append(f"no data after {span(rule.no_data_after_us)}")
    if rule.inhibited_by:
        facts.append(f"held back by {', '.join(rule.inhibited_by)}")
    if metric.kind == "own":
        facts.append(f"at most {rule.max_alerts} alerts")
    yield fill(f"({'; '.join(facts)})", WIDTH)


def _amount(value: float, rule: Rule, unit: str) -> str:
    return f"{value:g} {unit}" if unit else amount(value, rule.unit)


def _metrics() -> Iterator[str]:
    for metric in METRICS.values():
        unit = {"1": "share"}.get(metric.unit, metric.unit)
        judged = _KINDS[metric.kind] + (", matured" if metric.name in MATURED else "")
        yield f"| `{metric.name}` | {unit} | {judged}{', signals' if metric.signals else ''} |"


def main(_arguments: Sequence[str]) -> int:
    """Print the page."""
    sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
