"""The commands against a real service: one set of figures in every form, and what they end with."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_service.alerts.rules.load import shipped
from metrics_service.cli.http import fetch
from servicekit.binaries import free_port
from servicekit.channels import PLAINTEXT
from tests.metrics.cli.asked import BOOKED, Asked, served


@pytest.fixture
def asked(metrics_dsn: str) -> Iterator[Asked]:
    with served(metrics_dsn) as made:
        yield made


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_form_of_every_command_has_the_same_figures(asked: Asked) -> None:
    message = json.loads(asked.good("funnel", "--window", "all", "--output", "json"))
    steps = rows(asked.good("-o", "csv", "funnel", "--window", "all"))
    assert [each["actors"] for each in message["steps"]] == [
        int(each["sessions"]) for each in steps
    ]
    table = asked.good("funnel", "--window", "all").splitlines()
    assert table[0].startswith("all time, as of 20")
    assert f"revision {message['revision']}" in table[0]
    assert table[1].startswith(f"entered {message['entered']} = converted {message['converted']} +")
    figures = {each["figure"]: each["value"] for each in rows(asked.good("status", "-o", "csv"))}
    assert figures["confirmed"] == "0", "the bookings of the test are of another year"
    all_time = rows(asked.run("status", "--window", "all", "-o", "csv").stdout)
    amounts = {(each["figure"], each["unit"]): each["value"] for each in all_time}
    assert amounts["confirmed", "bookings"] == str(BOOKED)
    assert amounts["net", "EUR"] == f"{BOOKED * 100}.00"
    told = json.loads(asked.run("status", "--window", "all", "-o", "json").stdout)
    assert told["metrics"]["business"]["confirmed"] == BOOKED
    (of_type,) = rows(asked.good("funnel", "--by", "type", "--window", "all", "-o", "csv"))
    assert of_type["type"] == "stay"
    assert of_type["revenue_net"] == f"{BOOKED * 100}.00 EUR"
    for command in (["errors"], ["queries"], ["queries", "--by", "statement"], ["slow"]):
        asked.good(*command)
        assert rows(asked.good(*command, "-o", "csv")) == []
        assert json.loads(asked.good(*command, "-o", "json"))["revision"] >= message["revision"]


def test_confirmed_bookings_are_those_of_http_and_metrics_at_one_revision(asked: Asked) -> None:
    http = f"127.0.0.1:{asked.http_port}"
    for _ in range(20):
        told = json.loads(asked.run("status", "--window", "all", "-o", "json").stdout)["metrics"]
        figures = json.loads(fetch(http, "/api/metrics/bookings", PLAINTEXT)[1])
        scrape = fetch(http, "/metrics", PLAINTEXT)[1].decode()
        numbers = dict(re.findall(r"^(farehold_\S+) (\S+)$", scrape, re.MULTILINE))
        revisions = {told["revision"], figures["revision"]}
        if revisions == {int(float(numbers["farehold_state_revision"]))}:
            break
    else:
        pytest.fail("no revision was the same at every door")
    assert told["business"]["confirmed"] == figures["metrics"]["business"]["confirmed"] == BOOKED
    assert float(numbers['farehold_bookings_total{transition="confirmed"}']) == BOOKED


def test_a_journey_a_series_and_a_deployment(asked: Asked) -> None:
    unknown = asked.run("journey", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr.count("\n") == 1
    assert asked.run("journey").exit_code == 2
    chart = asked.good(
        "series", "bookings_confirmed", "--step", "1m", "--window", "3m", "-o", "csv"
    )
    assert [each["partial"] for each in rows(chart)] == ["no", "no", "yes"]
    compared = asked.good(
        *("series", "bookings_confirmed", "--step", "1m", "--window", "3m", "--vs", "previous")
    )
    assert "… the step is not over" in compared
    assert "bookings_confirmed" in asked.good("series")
    wrong = asked.run("series", "bookings")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "must be of: funnel_entered" in wrong.stderr
    marked = asked.good("deploy", "mark", "--version", "[red]v1[/]").strip()
    assert marked in asked.good("deploy", "list")
    report = asked.run("deploy", "report")
    assert (report.exit_code, report.stderr) == (3, "")
    assert report.stdout.startswith("[red]v1[/], deployed 20")
    assert json.loads(asked.run("deploy", "report", "-o", "json").stdout)["verdict"] == "RUNNING"


def test_two_periods_are_cut_alike_and_their_dates_are_written_out(asked: Asked) -> None:
    first, *_ = asked.good("funnel", "--window", "15m", "--vs", "previous").splitlines()
    assert " UTC, compared with 20" in first
    both = json.loads(asked.good("funnel", "--window", "15m", "--vs", "previous", "-o", "json"))
    now, before = both["now"], both["before"]
    assert now["ended_s"] >= 10
    assert before["ended_s"] == now["ended_s"] + 900
    columns = rows(asked.good("funnel", "--window", "1h", "--vs", "week", "-o", "csv"))[0]
    assert {"sessions", "sessions_before"} <= columns.keys()
    refused = asked.run("funnel", "--window", "30d", "--vs", "previous")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "not kept" in refused.stderr
    no_window = asked.run("funnel", "--window", "all", "--vs", "previous")
    assert no_window.exit_code == 2


def test_alerts_silences_rule_files_and_targets(asked: Asked, tmp_path: Path) -> None:
    assert "none" in asked.good("alerts", "--all")
    sent = asked.good("alerts", "test", "log", "-o", "csv")
    assert rows(sent)[0]["delivered"] == "yes"
    nowhere = asked.run("alerts", "test", "pager")
    assert (nowhere.exit_code, nowhere.stdout) == (2, "")
    # By this version, and by that of the service.
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_bytes(shipped())
    bad.write_text("[[rule]]\nnonsense = 1\n")
    for where in ([], ["--target", asked.target]):
        assert asked.good("alerts", "lint", str(good), *where).startswith("accepted")
        refused = asked.run("alerts", "lint", str(bad), *where, "-o", "json")
        assert refused.exit_code == 1
        assert json.loads(refused.stdout)["findings"][0]["level"] == "ERROR"
    assert asked.run("alerts", "lint", str(tmp_path)).exit_code == 2
    assert asked.run("alerts", "lint", "\0").exit_code == 2
    made = asked.good(
        *("silence", "add", "rule=slow_query", "operation=[red]x", "--for", "2h"),
        *("--comment", "a known slow report"),
    ).strip()
    (listed,) = rows(asked.good("silence", "list", "-o", "csv"))
    assert (listed["id"], listed["active"], listed["rule"]) == (made, "yes", "slow_query")
    assert listed["labels"] == "operation=[red]x"
    assert "operation=[red]x" in asked.good("silence", "list")
    assert asked.run("silence", "expire", "ffff").exit_code == 2
    assert rows(asked.good("silence", "expire", made[:6], "-o", "csv"))[0]["active"] == "no"
    assert rows(asked.good("silence", "list", "-o", "csv")) == []
    assert len(rows(asked.good("silence", "list", "--all", "-o", "csv"))) == 1
    for wrong in (["rule"], ["=x"], ["rule=nothing_of_that_name"]):
        options = ("--for", "2h", "--comment", "x")
        assert asked.run("silence", "add", *wrong, *options).exit_code == 2
    assert asked.run("alerts", "show", "zz").exit_code == 2
    assert asked.run("alerts", "show", "0" * 32).exit_code == 1


@pytest.mark.parametrize("command", ["status", "funnel", "errors", "slow"])
def test_nobody_at_the_address_is_one_line_and_a_status_of_its_own(command: str) -> None:
    asked = Asked(f"127.0.0.1:{free_port()}", 0)
    result = asked.run(command)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.count("\n") == 1
    assert asked.target in result.stderr
