"""The shared options: before the command or after it, refused where they mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from metrics_service.cli.commands import app
from metrics_service.cli.options import (
    ASK,
    COMPARE,
    PERIOD,
    PRINT,
    REPEAT,
    Options,
    keeping,
    shared,
)
from metrics_service.cli.output.write import Form
from metrics_service.cli.periods import Against, Window

seen: list[Options] = []
trial = typer.Typer()


@trial.callback()
@keeping
def root() -> None:
    """Keep them."""


@trial.command()
@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def look(options: Options, limit: int = 3) -> None:
    """Look."""
    assert limit == 3
    seen.append(options)


@trial.command()
@shared(ASK)
def act(options: Options) -> None:
    """Act."""
    seen.append(options)


def run(*arguments: str, **environ: str) -> Any:
    clean = {"FAREHOLD_TARGET": None, "METRICS_PORT": None, **environ}
    return CliRunner(env=clean).invoke(trial, arguments)


def options(*arguments: str, **environ: str) -> Options:
    result = run(*arguments, **environ)
    assert result.exit_code == 0, result.output
    return seen.pop()


def test_each_has_a_default() -> None:
    found = options("look")
    assert (found.target, found.form) == ("127.0.0.1:50052", Form.TABLE)
    assert found.window == Window(timedelta(hours=1))
    assert (found.against, found.repeat_s, found.no_color) == (None, None, False)
    assert found.clock.zone is UTC


def test_the_nearest_one_counts() -> None:
    before = options("--window", "7d", "-o", "json", "--vs", "week", "look")
    assert before.window.length == timedelta(days=7)
    assert (before.form, before.against) == (Form.JSON, Against.WEEK)
    both = options("--window", "7d", "look", "--window", "15m", "--ended", "1h", "--tz", "local")
    assert both.window == Window(timedelta(minutes=15), timedelta(hours=1))
    assert both.clock.zone is None
    assert options("look", "--window", "all").window == Window(None)


def test_the_address_is_given_set_or_of_this_machine() -> None:
    assert options("look", METRICS_PORT="7").target == "127.0.0.1:7"
    assert options("look", METRICS_PORT="7", FAREHOLD_TARGET="m:8").target == "m:8"
    given = options("act", "--target", "n:9", METRICS_PORT="7", FAREHOLD_TARGET="m:8")
    assert given.target == "n:9"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "1h", "act"], "--window has no meaning for act"),
        (["--no-color", "act"], "--no-color has no meaning for act"),
        (["look", "--window", "1 h"], "'--window': must be a number with s, m, h, d or w"),
        (["look", "--window", "0h"], "'--window'"),
        (["look", "--ended", "\u0661h"], "'--ended'"),
        (["look", "--tz", "../../etc/passwd"], "'--tz': is not a time zone"),
        (["look", "--tz", "Mars"], "'--tz'"),
        (["look", "--watch", "0.1"], "'--watch'"),
        (["look", "--output", "xml"], "'--output'"),
        (["look", "--vs", "month"], "'--vs'"),
    ],
)
def test_a_bad_one_is_named_and_ends_with_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", [["health"], ["serve"], ["history", "export"]])
def test_a_command_that_has_none_of_them_refuses_them(command: list[str]) -> None:
    result = CliRunner().invoke(app, ["--target", "m:1", *command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--target has no meaning for" in " ".join(result.stderr.split())


def test_a_bad_setting_is_one_line_and_2() -> None:
    result = run("look", FAREHOLD_TOKEN_FILE="/none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("FAREHOLD_TOKEN_FILE")
    assert result.stderr.count("\n") == 1


def test_every_command_has_a_help_of_its_own_and_completes() -> None:
    help_of_all = CliRunner().invoke(app, ["--help"]).stdout
    for name in ("status", "funnel", "errors", "queries", "slow", "journey", "series", "deploy"):
        assert name in help_of_all
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    environ = {
        "_FAREHOLD_COMPLETE": "complete_bash",
        "COMP_WORDS": "farehold series bookings_conf",
        "COMP_CWORD": "2",
    }
    done = CliRunner(env=environ).invoke(app, [], prog_name="farehold")
    assert done.stdout.split() == ["bookings_confirmed"]


def test_a_time_without_a_zone_is_of_the_zone() -> None:
    found = options("look", "--tz", "Europe/Helsinki").clock
    no_zone = datetime.fromisoformat("2026-11-30T12:00")
    assert found.aware(no_zone) == datetime(2026, 11, 30, 10, tzinfo=UTC)
    with_zone = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert found.aware(with_zone) == with_zone
