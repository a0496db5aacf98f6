"""The rules, and the configurations of Prometheus and Alertmanager, by the programs' own checks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.requires import program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy/prometheus"
RULES = DEPLOY / "rules.yml"
TESTS = Path(__file__).with_name("rules_test.yml")
ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)
FIRES = re.compile(r"^ +alertname: (\w+)\n +exp_alerts:", re.MULTILINE)
SILENT = re.compile(r"\{eval_time: \w+, alertname: (\w+)\}")


def says(*command: str | Path) -> str:
    """What a command that succeeds writes."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[str]:
    found = ALERT.findall(RULES.read_text())
    assert len(found) == len(set(found)) > 10
    return found


def test_each_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    text = TESTS.read_text()
    assert set(FIRES.findall(text)) == set(alerts())
    assert set(SILENT.findall(text)) | {"FareholdWatchdog"} == set(alerts())


def test_each_alert_says_what_to_do() -> None:
    blocks = RULES.read_text().split("- alert: ")[1:]
    without = [block.split()[0] for block in blocks if "action:" not in block]
    assert without == ["FareholdWatchdog"]
    assert all("summary:" in block for block in blocks)


@pytest.mark.processes
@pytest.mark.full
def test_the_rules_are_clean_and_do_what_their_tests_say() -> None:
    promtool = program("promtool")
    assert "SUCCESS" in says(promtool, "check", "rules", "--lint=all", RULES)
    assert "SUCCESS" in says(promtool, "test", "rules", TESTS)


@pytest.mark.processes
@pytest.mark.full
def test_the_configurations_are_clean() -> None:
    says(program("promtool"), "check", "config", "--lint=all", DEPLOY / "prometheus.yml")
    assert "4 receivers" in says(program("amtool"), "check-config", DEPLOY / "alertmanager.yml")


@pytest.mark.processes
@pytest.mark.full
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=FareholdWatchdog severity=none", "watchdog"),
        ("alertname=FareholdRpcFaults severity=critical", "page"),
        ("alertname=FareholdAlert rule=view_to_start severity=warning", "notify"),
        ("alertname=FareholdAlert rule=anomaly severity=info", "none"),
        ("alertname=OfSomebodyElse", "notify"),
    ],
)
def test_alerts_go_to_whom_they_concern(labels: str, receiver: str) -> None:
    routed = ("config", "routes", "test", f"--config.file={DEPLOY / 'alertmanager.yml'}")
    assert says(program("amtool"), *routed, *labels.split()).split() == [receiver]
