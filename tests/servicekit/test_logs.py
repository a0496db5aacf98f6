"""One line a record, with the RPC it belongs to and without anybody's data."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from servicekit import logs
from servicekit.caller import LOCAL
from servicekit.context import Call, current_call


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    # What earlier tests left behind may write a line when it goes: not into the log of this one.
    gc.collect()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail_with_a_secret() -> None:
    password = "hunter2"
    raise RuntimeError(f"could not use {len(password)} characters")


def test_both_loggers_write_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    structlog.get_logger("ours").info("started", port=7)
    logging.getLogger("theirs").warning("%s is slow", "disk")
    structlog.get_logger("ours").debug("not shown")
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["port"], ours["level"]) == ("started", 7, "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == (
        "disk is slow",
        "theirs",
        "warning",
    )
    assert ours["timestamp"].endswith("Z")


def test_a_record_written_during_an_rpc_carries_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    token = current_call.set(Call("a.B/C", "r-1", LOCAL, "", None))
    try:
        structlog.get_logger().info("inside")
    finally:
        current_call.reset(token)
    record = json.loads(capsys.readouterr().err)
    assert (record["rpc"], record["request_id"], record["caller"]) == ("a.B/C", "r-1", "local")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(
    log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(log_format, "info")
    try:
        fail_with_a_secret()
    except RuntimeError:
        structlog.get_logger().exception("failed")
    shown = capsys.readouterr().err
    assert "fail_with_a_secret" in shown
    assert "password = 'hunter2'" not in shown
    assert "hunter2'" not in shown.replace('password = "hunter2"', "")


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("auto", "info")
    structlog.get_logger().info("started")
    assert json.loads(capsys.readouterr().err)["event"] == "started"
