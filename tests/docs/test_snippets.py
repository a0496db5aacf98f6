"""Every snippet of the documents does what the text around it promises, against a running pair.

A Python block runs as a script, a shell line in bash, an SQL statement in psql, each as it is
written but for the addresses of the pair. What a command line promises is in PROMISES; a line that
is neither there nor in NOT_RUN fails, and so does a block of another language.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import grpc
import pytest

from booking_service.demo import messages
from booking_service.storage.sql import QUERIES
from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.devstack import PostgresServer
from tests.docs import grpcurl
from tests.docs.snippets import DOCUMENTS, ROOT, Block, blocks, blocks_of
from tests.pair.real_pair import Pair, running, serves

BOUND_S: Final = 30.0
pytestmark = pytest.mark.timeout(120)

# No code: what they show is not run.
DRAWINGS: Final = {"text", "mermaid"}
NOT_RUN: Final = {
    "make run": "replays for minutes; tests/pair/test_replay_run.py runs what it runs",
    "make test": "would run this test again",
    "make watch": "ends with Ctrl-C only; tests/metrics/cli/test_watch.py draws what it draws",
}
# Documents with a test of their own that runs their commands.
RUN_ELSEWHERE: Final = {"docs/adding.md": "tests/docs/test_adding.py"}
STATUSES: Final = set(DatabaseHealth.Status.keys())
HTTP_SECTIONS: Final = {"metrics", "funnel", "errors"}
STEPS: Final = ["view", "start", "complete", "confirm"]


def answer(check: Callable[[Any], object]) -> Callable[[str], bool]:
    """Whether the output is one JSON value for which `check` holds."""
    return lambda output: bool(check(json.loads(output)))


PROMISES: Final[Mapping[str, Callable[[str], bool]]] = {
    "make health": answer(lambda found: found["status"] in STATUSES),
    "make metrics": answer(lambda found: set(found) >= HTTP_SECTIONS),
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


@pytest.fixture(scope="module")
def pair(
    postgres: PostgresServer,
    booking_template: str,
    metrics_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    """Both services, healthy, with one package on sale."""
    names = {"snippets_booking": booking_template, "snippets_metrics": metrics_template}
    dsns = [postgres.create_database(name, template=each) for name, each in names.items()]
    with running(Pair(dsns[0], dsns[1], tmp_path_factory.mktemp("logs"))) as pair:
        put_on_sale(pair)
        until(lambda: serves(pair.booking, "database"))
        until(lambda: get(f"http://{pair.http}/api/health/database")[0] == 200)
        until(lambda: query_counts(pair)["packages.create"] == 1)
        yield pair
    for name in names:
        postgres.drop_database(name)


def put_on_sale(pair: Pair) -> None:
    """A room for the days that the README books."""
    first = datetime.now(UTC).date() + timedelta(days=895)
    with grpc.insecure_channel(pair.booking) as channel:
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        vendor = catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa"))
        )
        package = catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(
                package=catalog_pb2.Package(
                    vendor_id=vendor.id,
                    title="Room with a view",
                    type="hotel_room",
                    location="Algarve",
                    time_zone="Europe/Lisbon",
                    base_price=messages.money(8050),
                    pricing=catalog_pb2.Package.QUOTED,
                )
            )
        )
        capacity = catalog_pb2.SetCapacityRequest(package_id=package.id)
        capacity.ranges.add(
            start_date=messages.day(first),
            end_date=messages.day(first + timedelta(days=10)),
            capacity=10,
        )
        catalog.SetCapacity(capacity)


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail when it does not within BOUND_S."""
    give_up = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def here(text: str, pair: Pair) -> str:
    """The text with the addresses of this pair in place of the default ones."""
    for default, actual in (
        ("127.0.0.1:50051", pair.booking),
        ("127.0.0.1:50052", pair.metrics),
        ("127.0.0.1:8080", pair.http),
    ):
        text = text.replace(default, actual)
    return text


def get(url: str) -> tuple[int, str]:
    """Status and body, whatever the status is."""
    try:
        with build_opener(ProxyHandler({})).open(url) as found:
            return found.status, found.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def run_line(line: str, pair: Pair) -> str:
    """What a command line prints, in bash where its program is installed."""
    program, *arguments = shlex.split(line)
    if program == "grpcurl":
        return first_output(line) if shutil.which(program) else first_message(arguments)
    if program == "curl" and not shutil.which(program):
        return get(f"http://{arguments[-1]}")[1]
    # With the environment as it is: installing is no part of a test.
    as_made = "make -o .venv/running.stamp -o .venv/development.stamp"
    done = subprocess.run(
        ["bash", "-c", re.sub(r"^make\b", as_made, line)],
        cwd=ROOT,
        env={**pair.environ, "PY": sys.executable},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_message(arguments: list[str]) -> str:
    return next(grpcurl.outputs(grpcurl.parse(arguments)))


def first_output(line: str) -> str:
    """All that an installed grpcurl prints, or the first message of a stream."""
    output = ""
    with subprocess.Popen(shlex.split(line), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for more in process.stdout:
            output += more
            with contextlib.suppress(ValueError):
                json.loads(output)
                break
        process.kill()
    return output


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_run_or_drawn(document: str) -> None:
    for block in blocks_of(document):
        assert block.language in {"python", "sh", "sql"} | DRAWINGS, block
        if block.language in DRAWINGS:
            assert not re.search(r"^(\$|make|curl|grpcurl|python|pip) ", block.text, re.M), block


@pytest.mark.db
@pytest.mark.processes
@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=str)
def test_a_command_prints_what_is_promised(block: Block, line: str, request: Any) -> None:
    if line in NOT_RUN:
        # As make understands it, with what it would run.
        done = subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True)
        assert done.returncode == 0
        assert done.stdout
        return
    assert line in PROMISES, f"{block}: say in PROMISES what it prints, or in NOT_RUN why not"
    pair: Pair = request.getfixturevalue("pair")
    output = run_line(here(line, pair), pair)
    assert PROMISES[line](output), output


def test_promises_are_of_lines_that_are_there() -> None:
    assert {*PROMISES, *NOT_RUN} == {line for _, line in COMMANDS}


def run_script(block: Block, pair: Pair, folder: Path, **environ: str) -> str:
    """What a Python block prints as a script of its own, in a folder of its own."""
    script = folder / "example.py"
    script.write_text(here(block.text, pair))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    assert done.stderr == "", block
    return done.stdout


def query_counts(pair: Pair) -> Counter[str]:
    """How often each operation ran, as metrics_service has it."""
    with grpc.insecure_channel(pair.metrics) as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        stats = stub.GetQueryStats(metrics_pb2.GetQueryStatsRequest())
    return Counter({each.operation: each.total for each in stats.groups})


def counts_of_scripts(pair: Pair) -> Counter[str]:
    """The same without the statements of booking_service."""
    counts = query_counts(pair)
    return Counter({name: counts[name] for name in counts if name not in QUERIES})


def block_with(word: str) -> Block:
    (block,) = (each for each in blocks("python") if word in each.text)
    return block


@pytest.mark.processes
def test_the_booking_script_prints_the_booking(pair: Pair, tmp_path: Path) -> None:
    output = run_script(block_with("StartBooking"), pair, tmp_path)
    assert "state: HELD" in output
    assert 'user_id: "ada"' in output
    assert 'session_id: "my-session"' in output


def timed_by(pair: Pair, run: Callable[[], str], expected: Mapping[str, int]) -> str:
    """What the script prints, once metrics_service has the operations that it is expected to time.

    close() gives up after two seconds, which a machine that stalls exceeds: then it runs again.
    """
    for _ in range(3):
        before = counts_of_scripts(pair)
        output = run()
        give_up = time.monotonic() + BOUND_S / 3
        while time.monotonic() < give_up:
            if counts_of_scripts(pair) - before == expected:
                return output
            time.sleep(0.05)
    raise AssertionError(f"{counts_of_scripts(pair)} after {before}, not {expected} more")


@pytest.mark.processes
def test_the_script_of_a_service_of_ones_own_times_its_query(
    pair: Pair, empty_dsn: str, tmp_path: Path
) -> None:
    block = block_with("nightly")
    output = timed_by(
        pair,
        lambda: run_script(block, pair, tmp_path, DATABASE_URL=empty_dsn),
        {"sql.select": 1, "reports.nightly": 1},
    )
    assert re.search(r"^\d+ tables$", output, re.MULTILINE)


@pytest.mark.processes
def test_the_script_of_the_tracking_guide_times_every_query(
    pair: Pair, postgres: PostgresServer, tmp_path: Path
) -> None:
    tables = (
        "CREATE TABLE hotels (name text, is_open boolean);"
        "CREATE TABLE openings (time timestamptz DEFAULT now())"
    )

    def run() -> str:
        postgres.drop_database("snippets_hotels")
        dsn = postgres.create_database("snippets_hotels")
        postgres.psql("snippets_hotels", tables)
        environ = {"DATABASE_URL": dsn, "METRICS_TARGET": pair.metrics}
        return run_script(block_with("hotels"), pair, tmp_path, **environ)

    output = timed_by(pair, run, {"sql.insert": 1, "hotels.open": 1, "hotels.count": 1})
    assert output.splitlines()[-1] == "1"
    postgres.drop_database("snippets_hotels")


def test_every_python_block_is_run_by_a_test() -> None:
    run = {block_with(word) for word in ("StartBooking", "nightly", "hotels")}
    assert run == set(blocks("python"))


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_sql_runs_on_a_migrated_database(
    block: Block, postgres: PostgresServer, booking_template: str
) -> None:
    postgres.create_database("snippets_sql", template=booking_template)
    outputs = []
    settings = ""
    # Settings go with the statement after them; each other has a transaction of its own.
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
