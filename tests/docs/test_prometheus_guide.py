"""docs/prometheus.md lists the alerts of deploy/prometheus/rules.yml, each as it is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULE = re.compile(r"- alert: (\w+)\n(?P<body>(?: {8}.*\n)+)")
ROW = re.compile(r"^\| (Farehold\w+) \| (.+?) \| (.+?) \| .+ \|$", re.MULTILINE)


def test_every_alert_has_its_row() -> None:
    text = (ROOT / "deploy/prometheus/rules.yml").read_text()
    rules = []
    for found in RULE.finditer(text):
        severity = re.search(r"severity: (\w+)", found["body"])
        lasting = re.search(r"^ +for: (\w+)", found["body"], re.MULTILINE)
        rules.append(
            (
                found[1],
                severity[1] if severity else "that of the rule",
                lasting[1] if lasting else "0s",
            )
        )
    assert len(rules) > 10
    assert ROW.findall((ROOT / "docs/prometheus.md").read_text()) == rules
