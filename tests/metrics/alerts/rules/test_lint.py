"""Lint explains rules that contradict each other, and refuses none for it."""

from __future__ import annotations

import pytest

from metrics_service.alerts.rules.load import check, shipped

SHIPPED = shipped().decode()


def warnings(text: str) -> list[tuple[str, str]]:
    """The rule and the explanation of each warning."""
    checked = check(text.encode())
    assert checked.accepted
    assert all(finding.line > 0 for finding in checked.findings)
    return [(finding.rule, finding.message) for finding in checked.findings]


def test_the_shipped_rules_are_explained() -> None:
    steps, ranges, abandonment = warnings(SHIPPED)
    assert steps[0] == ranges[0] == "overall_conversion"
    assert "15% x 50% x 75% = 5.6% and 10%" in steps[1]
    assert "multiply to 16% to 27%, its own is 20% to 30%" in ranges[1]
    assert abandonment[0] == "form_abandonment"
    assert "it fires below 60% completing" in abandonment[1]


@pytest.mark.parametrize(
    ("old", "new", "rule", "words"),
    [
        ("below = 0.15", "below = 0.3", "view_to_start", "fires within its good range"),
        ("below = 0.15", "below = 0.24", "view_to_start", "goes on within its good range"),
        ("above = 0.4", "above = 0.2", "form_abandonment", "fires within its good range"),
        ("none_of = 12", "none_of = 3", "start_to_complete", "in 2.7% of cases"),
        (
            'metric = "database_unhealthy"\nabove = 0',
            'metric = "database_unhealthy"\nabove = 0\ninhibited_by = ["slow_query"]',
            "database_unhealthy",
            "hold each other back",
        ),
    ],
)
def test_a_contradiction_is_explained(old: str, new: str, rule: str, words: str) -> None:
    assert old in SHIPPED
    found = warnings(SHIPPED.replace(old, new, 1))
    assert any(each == rule and words in message for each, message in found)


def test_a_warning_that_comes_after_the_critical_alert_is_explained() -> None:
    start = SHIPPED.index('[[rule]]\nname = "view_to_start"')
    rule = SHIPPED[start : SHIPPED.index("[[rule]]", start + 1)]
    critical = rule.replace('"warning"', '"critical"').replace("0.15", "0.2")
    found = warnings(SHIPPED + critical)
    assert any("never warns before the critical rule" in message for _, message in found)
