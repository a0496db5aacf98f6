"""`deploy`: what is printed, the exit status, and waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest

from metrics_service.cli.asking import Service as Asked
from metrics_service.cli.asking import asking
from metrics_service.cli.deploy import fetch_report, view_of
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.write import Form, console, write
from protos.metrics.v1 import deployment_pb2 as d
from protos.metrics.v1 import deployment_pb2_grpc
from servicekit.channels import PLAINTEXT
from servicekit.start import StartError
from tests.metrics.service_process import ended

ID: Final = "0f" * 16
Report = d.DeploymentReport


class Service(deployment_pb2_grpc.DeploymentServiceServicer):
    """Answers the verdicts that it is given, one after the other; None is an outage."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[Any] = []

    async def MarkDeployment(self, request: Any, context: Any) -> d.Deployment:
        self.asked.append(request)
        return d.Deployment(id=ID, version=request.version)

    async def GetDeploymentReport(self, request: Any, context: Any) -> d.DeploymentReport:
        self.asked.append(request)
        verdict = self.verdicts.pop(0)
        if verdict is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if not isinstance(verdict, int):
            await context.abort(verdict, "no deployment of this id was marked")
        report = Report(deployment=d.Deployment(id=ID, version="v1\x1b[2J"), verdict=verdict)
        report.items.add(
            name="query_p95", verdict=verdict, target="< 300 ms", unit="ms", before=5, summary="ok"
        )
        return report

    async def ListDeployments(self, request: Any, context: Any) -> d.ListDeploymentsResponse:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def served(service: Service) -> AsyncIterator[Asked]:
    server = grpc.aio.server()
    deployment_pb2_grpc.add_DeploymentServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asking(f"127.0.0.1:{port}", PLAINTEXT) as asked:
            yield asked
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("verdict", "status", "word"),
    [
        (Report.PASS, 0, "pass"),
        (Report.FAIL, 1, "fail"),
        (Report.TOO_LITTLE_DATA, 3, "too little data"),
        (Report.RUNNING, 3, "running"),
        (99, 3, "unknown"),
    ],
)
def test_the_verdict_is_printed_and_is_the_exit_status(
    verdict: int, status: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(deployment=d.Deployment(id=ID, version="v1\x1b[2J"))
    report.verdict = verdict  # type: ignore[assignment]  # also one of a later version
    report.items.add(name="query_p95", target="< 300 ms", unit="ms", before=5, summary="ok")
    report.items[0].verdict = report.verdict
    view = view_of(report, Clock())
    assert view.status == status
    write(view, Form.TABLE, console())
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert f"v1\\x1b[2J, deployed -: {word}" in head
    assert last.strip() == "as of -; the 72 hours end -"
    titles, _, item = (line.split() for line in rows)
    assert titles == [
        *("item", "verdict", "target", "observed", "before", "n", "what", "was", "seen")
    ]
    assert item == ["query_p95", *word.split(), "<", "300", "ms", "-", "5.0", "ms", "0", "ok"]


async def test_what_a_service_refuses_is_one_line_and_an_exit_status() -> None:
    service = Service(grpc.StatusCode.NOT_FOUND, None)
    stop = asyncio.Event()
    async with served(service) as asked:
        with pytest.raises(StartError, match="no deployment of this id was marked") as refused:
            await fetch_report(asked, "x", stop, wait=True)
        with pytest.raises(StartError, match="does not answer: away") as away:
            await fetch_report(asked, "", stop, wait=True)
    assert (refused.value.exit_status, away.value.exit_status) == (1, 4)


@pytest.mark.processes
async def test_a_deployment_is_marked_and_its_id_printed() -> None:
    service = Service()
    async with served(service) as asked:
        at = ("--at", "2026-11-30T12:00", "--tz", "Europe/Helsinki", "--target", asked.target)
        marked = await ended("deploy", "mark", "--version", "v1", *at)
    assert (marked.status, marked.out, marked.err) == (0, f"{ID}\n", "")
    (sent,) = service.asked
    assert (sent.version, sent.time.ToJsonString()) == ("v1", "2026-11-30T10:00:00Z")


async def test_it_waits_through_an_outage_for_the_verdict_of_one_deployment() -> None:
    service = Service(Report.RUNNING, None, Report.RUNNING, Report.PASS, Report.FAIL)
    async with served(service) as asked:
        stop = asyncio.Event()
        found = await fetch_report(asked, "", stop, wait=True, wait_s=0.01)
        assert found.verdict == Report.PASS
        assert [each.id for each in service.asked] == ["", ID, ID, ID]


async def test_without_wait_or_once_stopped_it_is_undecided() -> None:
    service = Service(Report.RUNNING, Report.RUNNING)
    async with served(service) as asked:
        stop = asyncio.Event()
        stop.set()
        assert (await fetch_report(asked, "", stop, wait=False)).verdict == Report.RUNNING
        assert (await fetch_report(asked, "", stop, wait=True)).verdict == Report.RUNNING
