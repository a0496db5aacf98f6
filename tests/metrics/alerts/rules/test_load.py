"""A rule file is read as a whole, or refused with the line and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_service.alerts.rules.load import MAX_BYTES, RuleFileError, check, load, shipped
from metrics_service.state.series.rings import MINUTE_US

GOOD = """
[[rule]]
name = "few_starts"
severity = "warning"
metric = "view_to_start"
below = 0.2
windows = ["1h", "6h"]
for = "5m"
title = "Few starts"
reason = "It is so."
action = "Look."
"""


def refused(text: str) -> tuple[int, str]:
    """The line and the reason of the first error."""
    checked = check(text.encode())
    assert checked.rules == ()
    error = next(finding for finding in checked.findings if finding.level == "error")
    return error.line, error.message


def test_a_rule_is_read_with_its_defaults() -> None:
    (rule,) = check(GOOD.encode()).rules
    assert rule.key == ("few_starts", "warning")
    assert rule.comparison == "below"
    assert rule.line == 0.2
    assert rule.resolve == pytest.approx(0.22)
    assert (rule.for_us, rule.keep_firing_for_us) == (5 * MINUTE_US, 0)
    assert rule.windows_us == (60 * MINUTE_US, 360 * MINUTE_US)
    assert (rule.min_samples, rule.none_of, rule.line_number) == (10, 0, 2)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ('name = "few_starts"', 'name = "Few starts"', 3, "lower-case letters"),
        ('"warning"', '"urgent"', 4, "'urgent' is none; one of info, warning, critical"),
        ('"view_to_start"', '"views"', 5, "'views' is none; one of funnel_entered,"),
        ("below = 0.2", "below = 0.2\nabove = 0.3", 7, "exactly one of below and above"),
        ("below = 0.2", "", 2, "exactly one of below and above"),
        ("below = 0.2", 'below = "20%"', 6, "must be a number"),
        ("below = 0.2", "below = nan", 6, "must be a number"),
        ("below = 0.2", "below = 0.2\nresolve = 0.1", 7, "0.1 is worse than below = 0.2"),
        ("below = 0.2", "below = 0.2\ngood = [0.4, 0.3]", 7, "the lower one first"),
        ("below = 0.2", "below = 0.2\nmin_samples = 1.5", 7, "must be a whole number"),
        ("below = 0.2", "below = 0.2\nmax_alerts = 5", 7, "view_to_start has one alert"),
        ('["1h", "6h"]', '["61m", "3601s"]', 7, "must ascend"),
        ('["1h", "6h"]', '["3601s"]', 7, "is not kept; kept are multiples of 10 s"),
        ('["1h", "6h"]', '["1h", "2h", "3h", "4h"]', 7, "1 to 3 of them"),
        ('["1h", "6h"]', "[]", 7, "needs windows"),
        ('for = "5m"', "for = 300", 8, "'300' is no duration such as 30s, 5m"),
        ('for = "5m"', 'for = "99d"', 8, "30 days at most"),
        ('for = "5m"', 'while = "5m"', 8, "no such key; there are name, severity"),
        ('for = "5m"', 'inhibited_by = ["x"]', 8, "names no rule of the file: 'x'"),
        ('title = "Few starts"', 'title = ""', 9, "must be 1 to 600 characters"),
        ('title = "Few starts"', "", 2, "title is missing"),
        ('title = "Few starts"', 'title = "Few', 9, "not TOML"),
        ("[[rule]]", "[rule]", 0, "rules are written as [[rule]] tables"),
        ("\n[[rule]]", "colour = 1\n[[rule]]", 1, "unknown key 'colour'"),
    ],
)
def test_an_error_is_named_with_its_line(old: str, new: str, line: int, reason: str) -> None:
    found, message = refused(GOOD.replace(old, new, 1))
    assert reason in message
    assert found == line


def test_the_line_is_found_behind_texts_of_several_lines() -> None:
    text = GOOD.replace('reason = "It is so."', 'reason = """\\\n  name = 1 \\\n  so."""')
    assert check(text.encode()).accepted
    assert refused(text.replace('"Look."', "1")) == (
        13,
        "action: must be 1 to 600 characters in one line",
    )


def test_two_rules_of_one_name_differ_in_severity() -> None:
    assert refused(GOOD + GOOD) == (14, "the warning rule of this name is in line 2")
    critical = GOOD.replace('"warning"', '"critical"').replace("0.2", "0.1")
    assert len(check((GOOD + critical).encode()).rules) == 2


@pytest.mark.parametrize(
    ("metric", "keys", "reason"),
    [
        ("errors_in_5_minutes", 'windows = ["1h"]', "has a window of its own"),
        ("errors_in_5_minutes", "min_samples = 3", "has no samples"),
        ("query_p95", 'windows = ["1h"]\nnone_of = 3', "is no ratio"),
        ("critical_query", "", "is known from 1000 on only"),
        ("query_p95", "", "needs windows, 1 to 1 of them"),
    ],
)
def test_a_metric_has_what_it_can_be_judged_by(metric: str, keys: str, reason: str) -> None:
    text = GOOD.replace('windows = ["1h", "6h"]', keys).replace("view_to_start", metric)
    assert reason in refused(text)[1]


def test_what_is_no_text_or_too_long_is_refused() -> None:
    assert refused("") == (0, "a file has 1 to 100 rules, not 0")
    assert refused("#" * (MAX_BYTES + 1))[1] == f"a rule file has at most {MAX_BYTES} bytes"
    checked = check(b"# a\n\xff")
    assert [(each.line, each.message) for each in checked.findings] == [
        (2, "a rule file is text in UTF-8")
    ]


def test_a_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD)
    assert [rule.name for rule in load(path)] == ["few_starts"]
    path.write_text(GOOD + GOOD.replace("few_starts", "many").replace("0.2", "true"))
    with pytest.raises(RuleFileError) as error:
        load(path)
    assert str(error.value) == f"{path}:17: rule many: below: must be a number"


def test_the_shipped_rules_are_accepted() -> None:
    assert check(shipped()).accepted
    assert len(load(None)) == 22
