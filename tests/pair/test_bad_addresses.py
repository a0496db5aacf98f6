"""A bad address of a database is one line that names its setting; no password is ever shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from booking_service.cli.commands import app as booking
from metrics_service.cli.commands import app as metrics
from servicekit import migrations
from servicekit.binaries import free_port
from servicekit.database_url import address, check, without_secrets

ROOT = Path(__file__).resolve().parents[2]
SECRET = "c4n4ryPw"
BOUND_S = 60.0

MALFORMED = {
    "of another database": f"mysql://ana:{SECRET}@h/x",
    "without a colon": f"postgres//ana:{SECRET}@h/x",
    "with one slash": f"postgresql:/ana:{SECRET}@h/x",
    "without a scheme": f"ana:{SECRET}@h/x",
    "of words": f"host=h password={SECRET}",
    "only a password": SECRET,
    "a name as port": f"postgresql://ana:{SECRET}@h:port/x",
    "a port too large": f"postgresql://ana:{SECRET}@h:99999/x",
    "port 0": f"postgresql://ana:{SECRET}@h:0/x",
    "without a host": f"postgresql://ana:{SECRET}@/x",
    "without a host or name": f"postgresql://ana:{SECRET}",
    "digits for a password": f"postgresql://ana:4711/{SECRET}/x",
    "without a name": f"postgresql://ana:{SECRET}@h",
    "two hosts": f"postgresql://ana:{SECRET}@h:1,i:2/x",
    "two ports": f"postgresql://h:1:{SECRET}/x",
    "a bad percent": f"postgresql://ana:{SECRET}%zz@h/x",
    "no character": f"postgresql://ana:{SECRET}@h/%ff",
    "a zero": f"postgresql://ana:{SECRET}%00@h/x",
    "a slash in the password": f"postgresql://ana:a/{SECRET}@h/x",
    "a hash in the password": f"postgresql://ana:a#{SECRET}@h/x",
    "a question mark in the password": f"postgresql://ana:a?{SECRET}@h/x",
    "a space": f"postgresql://ana:{SECRET} @h/x",
    "a line end": f"postgresql://ana:{SECRET}@h/x\n",
    "an open bracket": f"postgresql://[{SECRET}@h/x",
    "a closed bracket": f"postgresql://ana:{SECRET}@h]x/x",
    "brackets in the password": f"postgresql://ana:[{SECRET}]@h/x",
    "a label too long": f"postgresql://ana:{SECRET}@{'h' * 64}/x",
    "an unknown sslmode": f"postgresql://h/x?sslmode={SECRET}",
    "bytes that are no text": f"postgresql://ana:{SECRET}\udcff@h/x",
}
COMMANDS = [
    (booking, "BOOKING", "serve"),
    (booking, "BOOKING", "check-config"),
    (booking, "BOOKING", "migrate"),
    (booking, "BOOKING", "indexes-up"),
    (metrics, "METRICS", "serve"),
    (metrics, "METRICS", "check-config"),
    (metrics, "METRICS", "correct-time"),
]


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED.keys())
def test_every_command_refuses_it_in_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str
) -> None:
    for name in [name for name in os.environ if name.startswith(("BOOKING_", "METRICS_"))]:
        monkeypatch.delenv(name)
    for app, service, command in COMMANDS:
        monkeypatch.setenv(f"{service}_DATABASE_URL", url)
        status, out, err = _invoke(app, command)
        assert (status, out) == (2, "")
        _one_line(err, f"{service}_DATABASE_URL=")
    for service in ("BOOKING", "METRICS"):
        monkeypatch.setenv(f"{service}_DATABASE_URL", url)
        monkeypatch.setattr(sys, "argv", ["migrations", service.lower()])
        capfd.readouterr()
        assert migrations.main() == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        _one_line(printed.err, f"{service}_DATABASE_URL=")


# A word alone is a value like any other.
@pytest.mark.parametrize("url", [url for url in MALFORMED.values() if url != SECRET])
@pytest.mark.parametrize(
    "setting", ["BOOKING_METRICS_TARGET", "BOOKING_SENTRY_DSN", "BOOKING_PORT", "BOOKING_HOST"]
)
def test_an_address_in_the_wrong_setting_is_not_shown_either(
    monkeypatch: pytest.MonkeyPatch, setting: str, url: str
) -> None:
    monkeypatch.setenv("BOOKING_DATABASE_URL", "postgresql://ana@h/x")
    monkeypatch.setenv(setting, url)
    status, out, err = _invoke(booking, "check-config")
    assert (status, out) == (2, "")
    _one_line(err, f"{setting}=")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/x",
        "postgres://ana:p@h:5432/x?sslmode=disable&application_name=y",
        "postgresql://ana:p%40%2F%3F%23%25@h/x",
        "postgresql://ana:p@ss@h/x",
        "postgresql://ana@[::1]:5432/x",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://ana@h/?dbname=x",
    ],
)
def test_a_good_address_is_taken(url: str) -> None:
    check(url, "x")
    assert "p%40" not in address(url)


def test_an_address_is_shown_without_user_password_and_options() -> None:
    assert address("postgresql://u:secret@db.example:6000/booking?x=1") == "db.example:6000/booking"
    assert address("postgresql://u:secret@[::1]/booking") == "[::1]:5432/booking"
    assert address("postgresql://u:secret@h:bad/booking") == "an address that cannot be read"


def test_texts_of_other_programs_are_shown_without_it() -> None:
    url = "postgresql://ana:p%40ss@h/x?sslpassword=hidden"
    said = f"parse {url}: bad p@ss, hidden, for user ana"
    assert without_secrets(said, url) == "parse ***: bad ***, ***, for user ana"


@pytest.mark.processes
@pytest.mark.parametrize("wrong", ["password", "database", "password for dbmate"])
@pytest.mark.parametrize("service", ["booking", "metrics"])
def test_a_database_that_refuses_is_one_line(
    booking_dsn: str, metrics_dsn: str, service: str, wrong: str
) -> None:
    good = booking_dsn if service == "booking" else metrics_dsn
    password = good.split(":")[2].split("@")[0]
    # Characters that dbmate's parser refuses unless they are encoded, as none need be for asyncpg.
    url = good.replace(password, f'{SECRET}"^' if "password" in wrong else password)
    if wrong == "database":
        url = good.replace("/test_", "/absent_")
        password = SECRET
    command = [f"{service}_service", "serve"]
    if "dbmate" in wrong:
        command = ["servicekit.migrations", service]
    done = _run(command, **{f"{service.upper()}_DATABASE_URL": url})
    assert (done.returncode, done.stdout) == (1, "")
    _one_line(done.stderr, service)
    assert password not in done.stderr


def _invoke(app: Typer, command: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [command])
    return result.exit_code, result.stdout, result.stderr


def _run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    ports = ("BOOKING_PORT", "METRICS_PORT", "METRICS_HTTP_PORT")
    environ = os.environ | {name: str(free_port()) for name in ports} | variables
    return subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environ,
        timeout=BOUND_S,
    )


def _one_line(text: str, named: str) -> None:
    assert text.count("\n") == 1, text
    assert named in text
    assert SECRET not in text
    assert "Traceback" not in text
