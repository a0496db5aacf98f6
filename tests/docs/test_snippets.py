"""Every snippet of the documents does what the text around it promises, against a running pair.

A Python block runs as a script, a shell line in bash, an SQL statement in psql, each as it is
written but for the addresses of the pair and the patience of close(). What a command line promises
is in PROMISES; a line that is neither there nor in NOT_RUN fails, and so does a block of another
language.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.devstack import PostgresServer
from tests.docs import grpcurl
from tests.docs.integration_scripts import EXAMPLES
from tests.docs.snippet_runner import (
    counts_of_scripts,
    here,
    run_line,
    run_script,
    serving,
    until,
    without_make,
)
from tests.docs.snippets import DOCUMENTS, ROOT, Block, blocks, blocks_of
from tests.pair.real_pair import Pair

# No code: what they show is not run.
DRAWINGS: Final = {"text", "mermaid"}
NOT_RUN: Final = {
    "make run": "replays for minutes; tests/pair/test_replay_run.py runs what it runs",
    "make test": "would run this test again",
    "make observability": "ends with Ctrl-C only; tests/prometheus/test_observability.py runs it",
    "make watch": "ends with Ctrl-C only; tests/metrics/cli/test_watch.py draws what it draws",
}
# Documents with a test of their own that runs their commands.
RUN_ELSEWHERE: Final = {
    "docs/adding.md": "tests/docs/test_adding.py",
    "docs/deployment.md": "tests/docs/test_deployment.py",
    "docs/identity.md": "tests/docs/test_identity_guide.py",
    "docs/integration.md": "tests/docs/test_export.py",
    "docs/operations.md": "tests/docs/test_operations.py",
}
IN_OTHER_LANGUAGES: Final = {"docs/integration.md"}
STATUSES: Final = set(DatabaseHealth.Status.keys())
HTTP_SECTIONS: Final = {"metrics", "funnel", "errors"}
STEPS: Final = ["view", "start", "complete", "confirm"]


def answer(check: Callable[[Any], object]) -> Callable[[str], bool]:
    """Whether the output is one JSON value for which `check` holds."""
    return lambda output: bool(check(json.loads(output)))


PROMISES: Final[Mapping[str, Callable[[str], bool]]] = {
    "make health": answer(lambda found: found["status"] in STATUSES),
    "make metrics": answer(lambda found: set(found) >= HTTP_SECTIONS),
    ".venv/bin/farehold status": lambda output: (
        output.startswith("database healthy") and "confirmed" in output
    ),
    ".venv/bin/farehold funnel --by type --vs previous": lambda output: (
        "compared with" in output and "By type" in output
    ),
    ".venv/bin/farehold series bookings_confirmed overall_conversion --step 1m": lambda output: (
        "overall_conversion" in output
    ),
    "grpcurl -plaintext 127.0.0.1:50051 list booking.v1.BookingService": lambda output: (
        "booking.v1.BookingService.StartBooking" in output.splitlines()
    ),
    """grpcurl -plaintext -d '{"page_size": 1}' 127.0.0.1:50051 """
    "booking.v1.CatalogService/SearchPackages": answer(
        lambda found: len(found["packages"]) == 1 and found["packages"][0]["basePrice"]
    ),
    """grpcurl -plaintext -d '{"service": "database"}' 127.0.0.1:50051 """
    "grpc.health.v1.Health/Check": answer(lambda found: found == {"status": "SERVING"}),
    "grpcurl -plaintext 127.0.0.1:50052 metrics.v1.MetricsService/GetFunnel": answer(
        lambda found: [step["name"] for step in found["steps"]] == STEPS
    ),
    """grpcurl -plaintext -d '{"interval": "1s"}' 127.0.0.1:50052 """
    "metrics.v1.MetricsService/StreamMetrics": answer(lambda found: "funnel" in str(found)),
    "curl -s 127.0.0.1:8080/api/health/database": answer(lambda found: found["status"] in STATUSES),
    "curl -s 127.0.0.1:8080/api/metrics/bookings": answer(
        lambda found: set(found) >= HTTP_SECTIONS
    ),
    "curl -s '127.0.0.1:8080/api/rpc/GetFunnel?window=1h&state=MATURED'": answer(
        lambda found: (found["state"], found["window_s"]) == ("MATURED", 3_600)
    ),
    "curl -s '127.0.0.1:8080/api/rpc/GetSeries?metrics=bookings_confirmed&metrics=error_rate"
    "&window=24h&step=1h'": answer(lambda found: len(found["series"]) == 2),
    """grpcurl -plaintext -d '{"window": "3600s", "order_by": "P95"}' 127.0.0.1:50052 """
    "metrics.v1.MetricsService/GetQueryStats": answer(
        lambda found: found["window"] == "3600s" and found["groups"]
    ),
    """grpcurl -plaintext -d '{"group_by": "FINGERPRINT"}' 127.0.0.1:50052 """
    "metrics.v1.MetricsService/GetQueryStats": answer(
        lambda found: any("fingerprint" in group for group in found["groups"])
    ),
    "grpcurl -plaintext 127.0.0.1:50052 metrics.v1.MetricsService/ListSlowQueries": answer(
        lambda found: "asOf" in found
    ),
    "grpcurl -plaintext 127.0.0.1:50052 metrics.v1.HealthService/GetDatabaseHealth": answer(
        lambda found: "status" in str(found)
    ),
}


def command_of(line: str) -> str:
    """A command line without the comment at its end, its words as they are quoted."""
    return re.sub(r"\s+# .*$", "", line).strip()


COMMANDS: Final = [
    (block, command_of(line))
    for block in blocks("sh")
    if block.document not in RUN_ELSEWHERE
    for line in block.commands
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_run_or_drawn(document: str) -> None:
    for block in blocks_of(document):
        if document in IN_OTHER_LANGUAGES:
            assert block.language in {"python", "sh", "typescript", "yaml"}, block
            continue
        assert block.language in {"python", "sh", "sql"} | DRAWINGS, block
        if block.language in DRAWINGS:
            assert not re.search(r"^(\$|make|curl|grpcurl|python|pip) ", block.text, re.M), block


def test_every_command_has_a_promise_or_a_reason_not_to_run() -> None:
    assert {*PROMISES, *NOT_RUN} == {line for _, line in COMMANDS}


def test_every_python_block_has_a_check() -> None:
    assert {check_of(block) for block in blocks("python")} == set(SCRIPTS.values())


@pytest.mark.processes
@pytest.mark.timeout(240)
def test_each_snippet_keeps_its_promise(
    booking_dsn: str,
    metrics_dsn: str,
    postgres: PostgresServer,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    with serving(booking_dsn, metrics_dsn, tmp_path) as pair:
        for block, line in COMMANDS:
            if line in PROMISES:
                with subtests.test(f"{block}: {line}"):
                    output = run_line(here(line, pair), pair)
                    assert PROMISES[line](output), output
        for block in blocks("python"):
            with subtests.test(str(block)):
                check_of(block)(block, pair, tmp_path, postgres)


@pytest.mark.processes
@pytest.mark.parametrize("line", NOT_RUN)
def test_a_command_that_is_not_run_is_one_that_make_knows(line: str) -> None:
    command = ["make", "-n", *line.split()[1:]]
    done = subprocess.run(command, cwd=ROOT, env=without_make(os.environ), capture_output=True)
    assert done.returncode == 0
    assert done.stdout


def booking_script(block: Block, pair: Pair, folder: Path, _: PostgresServer) -> None:
    """It prints the booking that it has made."""
    output = run_script(block, pair, folder)
    assert "state: HELD" in output
    assert 'user_id: "ada"' in output
    assert 'session_id: "my-session"' in output


def embedding_script(block: Block, pair: Pair, folder: Path, postgres: PostgresServer) -> None:
    """Its query and its operation are timed."""
    dsn = postgres.create_database("snippets_own")
    output = timed_by(
        pair,
        lambda: run_script(block, pair, folder, DATABASE_URL=dsn),
        {"sql.select": 1, "reports.nightly": 1},
    )
    assert re.search(r"^\d+ tables$", output, re.MULTILINE)


def tracking_script(block: Block, pair: Pair, folder: Path, postgres: PostgresServer) -> None:
    """Every query is timed, under the names that its comments give."""
    dsn = postgres.create_database("snippets_hotels")
    postgres.psql("snippets_hotels", "CREATE TABLE hotels (name text, is_open boolean)")
    postgres.psql("snippets_hotels", "CREATE TABLE openings (time timestamptz DEFAULT now())")
    output = timed_by(
        pair,
        lambda: run_script(block, pair, folder, DATABASE_URL=dsn, METRICS_TARGET=pair.metrics),
        {"sql.insert": 1, "hotels.open": 1, "hotels.count": 1},
    )
    assert output.splitlines()[-1] == "1"


# By a text that only this block has.
SCRIPTS: Final[Mapping[str, Callable[[Block, Pair, Path, PostgresServer], None]]] = {
    '"ada"': booking_script,
    "nightly": embedding_script,
    "hotels": tracking_script,
    **EXAMPLES,
}


def check_of(block: Block) -> Callable[[Block, Pair, Path, PostgresServer], None]:
    """What runs a Python block and checks its output."""
    (check,) = (check for word, check in SCRIPTS.items() if word in block.text)
    return check


def timed_by(pair: Pair, run: Callable[[], str], expected: Mapping[str, int]) -> str:
    """What the script prints, once metrics_service has the operations that it times."""
    before = counts_of_scripts(pair)
    output = run()
    # close() returned when metrics_service had stored all; its fold may still have to follow.
    until(lambda: counts_of_scripts(pair) - before == expected)
    return output


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_sql_runs_on_a_migrated_database(
    block: Block, postgres: PostgresServer, booking_template: str
) -> None:
    postgres.create_database("snippets_sql", template=booking_template)
    outputs = []
    settings = ""
    # Settings go with the statement after them; every other statement is one transaction.
    for statement in filter(None, map(str.strip, block.text.split(";"))):
        if statement.startswith("SET "):
            settings += f"{statement};"
        else:
            outputs.append(postgres.psql("snippets_sql", settings + statement))
    postgres.drop_database("snippets_sql")
    if "EXPLAIN" in block.text:
        assert "idx_bookings_created_desc" in outputs[-1]
        assert "Seq Scan" not in outputs[-1]


def test_grpcurl_here_refuses_what_it_does_not_know() -> None:
    for line in ("-plaintext -max-time 5 a:1 x/Y", "a:1 list", "-plaintext a:1 describe x", "-d"):
        with pytest.raises(grpcurl.UsageError):
            grpcurl.parse(line.split())
