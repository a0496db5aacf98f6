"""A whole metrics_service in a thread, which commands of this process ask."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

from structlog.testing import capture_logs
from typer.testing import CliRunner

from metrics_service.cli.commands import app
from protos.metrics.v1 import metrics_pb2
from tests.metrics.running_service import BOUND_S, Producer, Service, running

BOOKED: Final = 4


class Asked:
    """Invokes commands as a shell would, but for the process."""

    def __init__(self, target: str, http_port: int) -> None:
        self.target = target
        self.http_port = http_port

    def run(self, *arguments: str, **environ: str) -> Any:
        """The result of a command: exit_code, stdout and stderr."""
        environ = {"FAREHOLD_TARGET": self.target, "COLUMNS": "200", "NO_COLOR": "1", **environ}
        return CliRunner(env=environ).invoke(app, arguments)

    def good(self, *arguments: str) -> str:
        """What a command prints that ends with 0 and says nothing else."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return str(result.stdout)


@contextlib.contextmanager
def served(dsn: str, **variables: str) -> Iterator[Asked]:
    """A service that has counted some bookings."""
    started, done = threading.Event(), threading.Event()
    made: list[Asked] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        async with running(dsn, **variables) as service, Producer(service) as producer:
            producer.book(BOOKED)
            await _counted(service)
            made.append(Asked(service.target, service.http_port))
            started.set()
            await asyncio.to_thread(done.wait)

    def thread() -> None:
        try:
            # Not in what the commands print.
            with capture_logs():
                asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    try:
        assert started.wait(BOUND_S)
        if failed:
            raise failed[0]
        yield made[0]
    finally:
        done.set()
        worker.join(BOUND_S)
    if failed:
        raise failed[0]


async def _counted(service: Service) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = await service.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())
            if answer.business.confirmed == BOOKED:
                return
            await asyncio.sleep(0.02)
