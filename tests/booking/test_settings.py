"""Settings and command line of booking_service: a mistake is one line that can be acted on."""

from __future__ import annotations

import os
import sys

import pytest
from typer.testing import CliRunner

from booking_service.cli.commands import app
from booking_service.config import BookingSettings
from servicekit.settings import SettingsError

GOOD = {"BOOKING_DATABASE_URL": "postgresql://ana@db:5432/booking"}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting of the service."""
    for name in os.environ:
        if name.startswith("BOOKING_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    return monkeypatch


MISTAKES = [
    ({"BOOKING_DATABASE_URL": "mysql://db/x"}, "must be an address such as postgresql://"),
    ({"BOOKING_DATABASE_URL": "postgresql://db:port/x"}, "must be an address such as"),
    ({"BOOKING_PORT": "70000"}, "must be a whole number from 0 to 65535"),
    ({"BOOKING_PORT": "http"}, "must be a whole number from 0 to 65535"),
    ({"BOOKING_GROUP_SIZE_MAX": "0"}, "must be a whole number from 1 to 256"),
    ({"BOOKING_GROUP_SIZE_MAX": "257"}, "must be a whole number from 1 to 256"),
    ({"BOOKING_QUEUE_MAX": "0"}, "must be a whole number from 1 to 65536"),
    ({"BOOKING_QUEUE_WAIT_MAX_MS": "9"}, "must be a whole number from 10 to 60000"),
    ({"BOOKING_DATABASE_POOL_SIZE": "1"}, "must be a whole number from 2 to 200"),
    ({"BOOKING_HOLDS_PER_USER_MAX": "-1"}, "must be a whole number from 0 to 10000"),
    ({"BOOKING_ONE_HOLD_PER_USER_AND_PACKAGE": "perhaps"}, "must be true or false"),
    ({"BOOKING_SWEEP_INTERVAL_S": "0"}, "must be a number from 0.1 to 3600"),
    ({"BOOKING_SEGMENT_RETENTION_H": "x"}, "must be a number"),
    ({"BOOKING_METRICS_TARGET": "localhost"}, "must be empty or host:port"),
    ({"BOOKING_METRICS_TARGET": "localhost:0"}, "must be empty or host:port"),
    ({"BOOKING_SENTRY_DSN": "https://example.org"}, "must be empty or an address"),
    ({"BOOKING_LOG_FORMAT": "xml"}, "must be one of auto, console, json"),
]


@pytest.mark.parametrize(("mistake", "allowed"), MISTAKES, ids=[f"{each}" for each, _ in MISTAKES])
def test_a_mistake_names_variable_value_and_what_is_allowed(
    environ: pytest.MonkeyPatch, mistake: dict[str, str], allowed: str
) -> None:
    for name, value in (GOOD | mistake).items():
        environ.setenv(name, value)
    result = CliRunner().invoke(app, ["check-config"])
    (name, value) = next(iter(mistake.items()))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    # Of an address only the scheme is shown: it may hold a password.
    scheme = value[: value.index("//") + 2] + "***" if "//" in value else value
    assert f"{name}='{scheme}': {allowed}" in result.output


def test_good_settings_are_confirmed(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DATABASE_URL", GOOD["BOOKING_DATABASE_URL"])
    result = CliRunner().invoke(app, ["check-config"])
    assert result.exit_code == 0
    assert "127.0.0.1:50051" in result.output


def test_traces_without_their_extra_are_no_good_settings(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("DATABASE_URL", GOOD["BOOKING_DATABASE_URL"])
    environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert CliRunner().invoke(app, ["check-config"]).exit_code == 0
    environ.setitem(sys.modules, "servicekit.tracing.otlp", None)
    result = CliRunner().invoke(app, ["check-config"])
    assert result.exit_code == 2
    assert "pip install 'farehold[otlp]'" in result.output


def test_an_unknown_variable_is_refused_with_the_nearest_one(environ: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"BOOKING_PROT is not a setting.*BOOKING_PORT"):
        BookingSettings.load(GOOD | {"BOOKING_PROT": "1"})


def test_the_database_must_be_named(environ: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^BOOKING_DATABASE_URL .*must be an address") as error:
        BookingSettings.load({})
    assert "\n" not in str(error.value)


def test_a_password_is_not_shown() -> None:
    settings = BookingSettings.load({"BOOKING_DATABASE_URL": "postgresql://ana:s3cret@db/booking"})
    assert "s3cret" not in repr(settings)
    with pytest.raises(SettingsError) as error:
        BookingSettings.load({"BOOKING_DATABASE_URL": "mysql://ana:s3cret@db/booking"})
    assert "s3cret" not in str(error.value)


def test_its_own_variable_goes_before_the_common_one() -> None:
    common = {"DATABASE_URL": "postgresql://common/x"}
    assert BookingSettings.load(common).database_url == common["DATABASE_URL"]
    assert BookingSettings.load(common | GOOD).database_url == GOOD["BOOKING_DATABASE_URL"]


def test_defaults_are_those_of_the_design() -> None:
    settings = BookingSettings.load(GOOD)
    assert (settings.host, settings.port) == ("127.0.0.1", 50051)
    assert settings.metrics_target == "127.0.0.1:50052"
    assert (settings.group_size_max, settings.queue_max) == (256, 2048)
    assert settings.queue_wait_max_ms == 500
    assert settings.segment_retention_h == 24


def test_the_database_commands_are_there_too() -> None:
    result = CliRunner().invoke(app, ["--help"])
    for command in ("serve", "check-config", "migrate", "rollback", "indexes-up", "indexes-down"):
        assert command in result.output
