"""Runs the real pair as two processes for the replay's tests, and can kill either."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit import binaries
from servicekit.channels import PLAINTEXT, ClientFiles
from tests.sizes import size

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "resort_hotel_bookings.csv.gz"
ALL_ROWS = 9_999
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class Pair:
    """booking_service and metrics_service on free ports over the given databases."""

    def __init__(
        self,
        booking_dsn: str,
        metrics_dsn: str,
        logs: Path,
        settings: dict[str, str] | None = None,
        *,
        files: ClientFiles = PLAINTEXT,
    ) -> None:
        self.files = files
        ports = {name: binaries.free_port() for name in ("booking", "metrics", "http")}
        self.booking = f"127.0.0.1:{ports['booking']}"
        self.metrics = f"127.0.0.1:{ports['metrics']}"
        self.http = f"127.0.0.1:{ports['http']}"
        self.logs = logs
        # None of the developer's own settings.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BOOKING_", "METRICS_", "FAREHOLD_", "DATABASE_URL", "OTEL_"))
        }
        self.environ = clean | {
            "BOOKING_DATABASE_URL": booking_dsn,
            "BOOKING_PORT": str(ports["booking"]),
            "BOOKING_METRICS_TARGET": self.metrics,
            "METRICS_DATABASE_URL": metrics_dsn,
            "METRICS_PORT": str(ports["metrics"]),
            "METRICS_HTTP_PORT": str(ports["http"]),
            **(settings or {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """Starts "booking_service" or "metrics_service" and returns when it serves."""
        target = self.booking if service == "booking_service" else self.metrics
        with (self.logs / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", service, "serve"],
                cwd=ROOT,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=binaries.end_with_parent,
            )
        self._processes[service] = process
        give_up = time.monotonic() + READY_TIMEOUT_S
        while not serves(target, files=self.files):
            assert process.poll() is None, self.log(service)
            assert time.monotonic() < give_up, f"{service} does not serve: {self.log(service)}"
            time.sleep(0.05)

    def kill(self, service: str) -> None:
        """Kill -9."""
        process = self._processes.pop(service)
        process.kill()
        process.wait()

    def ended(self, service: str, within_s: float) -> None:
        """Wait for a service that was told to end."""
        self._processes.pop(service).wait(within_s)

    def pid(self, service: str) -> int:
        """The process id of a service that runs."""
        return self._processes[service].pid

    def stop(self) -> None:
        """SIGTERM to both, the booking service first."""
        for service in ("booking_service", "metrics_service"):
            self.stop_one(service)

    def stop_one(self, service: str) -> None:
        """SIGTERM, if it runs."""
        if process := self._processes.pop(service, None):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def lines(self, service: str) -> list[str]:
        """All lines of a service's log."""
        return (self.logs / f"{service}.log").read_text(errors="replace").splitlines()

    def log(self, service: str) -> str:
        return (self.logs / f"{service}.log").read_text(errors="replace")[-4000:]


def serves(target: str, service: str = "", files: ClientFiles = PLAINTEXT) -> bool:
    """Whether grpc.health.v1 at `target` says SERVING of `service`."""
    credentials = files.credentials()
    with (
        grpc.insecure_channel(target)
        if credentials is None
        else grpc.secure_channel(target, credentials)
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10.0)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def running(pair: Pair) -> Iterator[Pair]:
    """Both services, until the end of the block."""
    try:
        pair.start("metrics_service")
        pair.start("booking_service")
        yield pair
    finally:
        pair.stop()


def input_file(folder: Path, rows: int) -> Path:
    """The default file cut to its first `rows`, to more of them, or whole: see `size`."""
    wanted = size(rows, ALL_ROWS)
    return DATA if wanted == ALL_ROWS else first_rows(folder, wanted)


def first_rows(folder: Path, rows: int) -> Path:
    """The header and the first rows of the default file, as a file in `folder`."""
    path = folder / f"first-{rows}.csv"
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as lines, path.open("w") as cut:
        cut.writelines(islice(lines, rows + 1))
    return path
