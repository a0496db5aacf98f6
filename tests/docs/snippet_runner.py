"""Runs snippets of the documents against a pair of real processes: command lines in bash, Python
blocks as scripts, each as it is written but for the addresses.
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
from typing import Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import grpc

from booking_service.demo import messages
from booking_service.storage.sql import QUERIES
from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from tests.docs import grpcurl
from tests.docs.snippets import ROOT, Block
from tests.pair.real_pair import Pair, running, serves

BOUND_S: Final = 30.0
OF_MAKE: Final = frozenset({"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"})


@contextlib.contextmanager
def serving(booking_dsn: str, metrics_dsn: str, logs: Path) -> Iterator[Pair]:
    """Both services, healthy, with one package on sale."""
    with running(Pair(booking_dsn, metrics_dsn, logs)) as pair:
        put_on_sale(pair)
        until(lambda: serves(pair.booking, "database"))
        until(lambda: get(f"http://{pair.http}/api/health/database")[0] == 200)
        until(lambda: query_counts(pair)["packages.create"] == 1)
        yield pair


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
    """Status and body, of errors too."""
    try:
        with build_opener(ProxyHandler({})).open(url) as found:
            return found.status, found.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def without_make(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a make leaves to the makes below it, such as the one that runs the tests."""
    return {name: value for name, value in environ.items() if name not in OF_MAKE}


def run_line(line: str, pair: Pair) -> str:
    """What a command line prints, in bash where its program is installed."""
    program, *arguments = shlex.split(line)
    if program == "grpcurl":
        return first_output(line) if shutil.which(program) else first_message(arguments)
    if program == "curl" and not shutil.which(program):
        return get(f"http://{arguments[-1]}")[1]
    # With the environment as it is: installing is no part of a test.
    made = (
        f"make -o .venv/running.stamp -o .venv/development.stamp PY={shlex.quote(sys.executable)}"
    )
    done = subprocess.run(
        ["bash", "-c", re.sub(r"^make\b", made, line)],
        cwd=ROOT,
        env={**without_make(pair.environ), "no_proxy": "127.0.0.1"},
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


def run_script(block: Block, pair: Pair, folder: Path, **environ: str) -> str:
    """What a Python block prints when it runs as a script."""
    script = folder / "example.py"
    # close() gives up after two seconds, which a machine that stalls exceeds.
    patient = block.text.replace("telemetry.close()", f"telemetry.close({BOUND_S})")
    script.write_text(here(patient, pair))
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
