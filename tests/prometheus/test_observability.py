"""`make observability` serves what deploy/prometheus says, and ends with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.observability import configure
from servicekit.binaries import end_with_parent, free_port
from tests.prometheus.asked import get, until
from tests.requires import program

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "deploy.observability")
END_TIMEOUT_S = 30.0


def addresses(prometheus: str) -> set[str]:
    """Of the targets, which Prometheus has some seconds after its start."""
    targets = get(prometheus, "/api/v1/targets")["data"]["activeTargets"]
    return {each["discoveredLabels"]["__address__"] for each in targets}


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End it at the latest with the block, for whatever reason that ends."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.processes
@pytest.mark.full
def test_both_run_beside_the_pair_until_ctrl_c(tmp_path: Path) -> None:
    program("prometheus")
    program("prometheus-alertmanager")
    prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
    options = (f"--data={tmp_path}", f"--prometheus={prometheus}", f"--alertmanager={alertmanager}")
    environ = os.environ | {"METRICS_HTTP_PORT": str(free_port()), "BOOKING_HTTP_PORT": "9"}
    with (
        subprocess.Popen(
            [*COMMAND, *options],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent,
        ) as process,
        ended(process),
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Prometheus    http://{prometheus}/targets")
        groups = get(prometheus, "/api/v1/rules")["data"]["groups"]
        assert {each["name"] for each in groups} >= {"farehold.service", "farehold.alerts"}
        until(
            lambda: addresses(prometheus),
            lambda found: found == {f"127.0.0.1:{environ['METRICS_HTTP_PORT']}", "127.0.0.1:9"},
            "both services",
        )
        until(
            lambda: get(prometheus, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"],
            lambda found: (
                [each["url"] for each in found] == [f"http://{alertmanager}/api/v2/alerts"]
            ),
            "one Alertmanager",
        )
        receivers = get(alertmanager, "/api/v2/receivers")
        assert {"page", "watchdog"} <= {each["name"] for each in receivers}
        # Another one is refused, and leaves this one alone.
        second = subprocess.run(
            [*COMMAND, *options, f"--data={tmp_path / 'other'}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert f"{alertmanager} is taken by another process" in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT_S) == 0


@pytest.mark.processes
def test_where_they_are_missing_it_says_how_to_install_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, f"--data={tmp_path}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "Prometheus is not installed. On Debian, as root: apt-get install "
    )


def test_a_text_that_the_configuration_has_not_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"prometheus\.yml has no 127\.0\.0\.1:1"):
        configure({"127.0.0.1:1": "127.0.0.1:2"})
