"""`deploy mark` and `deploy report`: the exit status says how the 72 hours went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias, TypeVar

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from metrics_service.cli.plain import line, plain
from protos.metrics.v1 import deployment_pb2, deployment_pb2_grpc
from protos.metrics.v1.deployment_pb2 import DeploymentItem, DeploymentReport
from servicekit.channels import ClientFiles
from servicekit.client_settings import client_files
from servicekit.settings import SettingsError
from servicekit.start import StartError, fail, run

TIMEOUT_S: Final = 5.0
WAIT_S: Final = 30.0
"""Between two looks at a report that is waited for."""

FAILED: Final = 1
UNDECIDED: Final = 3
UNREACHABLE: Final = 4
EXIT_STATUS: Final = {
    DeploymentReport.PASS: 0,
    DeploymentReport.FAIL: FAILED,
    DeploymentReport.TOO_LITTLE_DATA: UNDECIDED,
    DeploymentReport.RUNNING: UNDECIDED,
}
STYLES: Final = {
    DeploymentReport.PASS: "bold green",
    DeploymentReport.FAIL: "bold red",
    DeploymentReport.TOO_LITTLE_DATA: "bold yellow",
    DeploymentReport.RUNNING: "bold",
}
_UNREACHABLE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})

deploy = typer.Typer(no_args_is_help=True, help="Mark deployments, and judge the 72 hours after.")

Host = Annotated[str, typer.Option(help="Host that the service runs on.")]
Port = Annotated[int, typer.Option(envvar="METRICS_PORT", min=1, max=65535)]
# A class of the stubs only.
Stub: TypeAlias = "deployment_pb2_grpc.DeploymentServiceAsyncStub"

T = TypeVar("T")


class NotReachableError(StartError):
    """The service does not answer."""

    exit_status = UNREACHABLE


@deploy.command()
def mark(
    version: Annotated[str, typer.Option(help="What was deployed.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
            help="When, in UTC; now if absent.",
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 50052,
) -> None:
    """Note that a version was deployed, and print the deployment's id."""
    request = deployment_pb2.MarkDeploymentRequest(version=version)
    if at is not None:
        request.time.FromDatetime(at.replace(tzinfo=UTC))

    async def call(_stop: asyncio.Event) -> None:
        async def marked(stub: Stub) -> deployment_pb2.Deployment:
            return await stub.MarkDeployment(request, timeout=TIMEOUT_S)

        print((await _ask(f"{host}:{port}", marked)).id)

    raise typer.Exit(run(call, uvloop=False))


@deploy.command()
def report(
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="The newest if absent.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until the 72 hours are judged.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 50052,
) -> None:
    """Print the report; the exit status is 0 for pass, 1 for fail, 3 for undecided and 4 where the
    service does not answer.
    """
    found: list[DeploymentReport] = []

    async def call(stop: asyncio.Event) -> None:
        found.append(await fetch_report(f"{host}:{port}", id_, stop, wait=wait))

    status = run(call, uvloop=False)
    if found:
        status = show(found[0])
    raise typer.Exit(status)


async def fetch_report(
    target: str, id_: str, stop: asyncio.Event, *, wait: bool, wait_s: float = WAIT_S
) -> DeploymentReport:
    """Return the report, with `wait` once it is decided or `stop` is set. A service that does not
    answer is waited for too, but at first. Raises StartError.
    """
    request = deployment_pb2.GetDeploymentReportRequest(id=id_)

    async def reported(stub: Stub) -> DeploymentReport:
        return await stub.GetDeploymentReport(request, timeout=TIMEOUT_S)

    newest = await _ask(target, reported)
    # A later deployment does not take its place.
    request.id = newest.deployment.id
    while wait and newest.verdict == DeploymentReport.RUNNING:
        try:
            async with asyncio.timeout(wait_s):
                await stop.wait()
            return newest
        except TimeoutError:
            pass
        try:
            newest = await _ask(target, reported)
        except NotReachableError:
            continue
    return newest


async def _ask(target: str, question: Callable[[Stub], Awaitable[T]]) -> T:
    async with _files().open(target) as channel:
        try:
            return await question(deployment_pb2_grpc.DeploymentServiceStub(channel))
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNREACHABLE:
                raise NotReachableError(
                    f"metrics_service at {target} does not answer: {plain(error.details() or '')}"
                ) from None
            raise StartError(plain(error.details() or error.code().name)) from None


def _files() -> ClientFiles:
    try:
        return client_files()
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def show(answer: DeploymentReport) -> int:
    """Print a report; returns the exit status."""
    console = Console()
    deployment, verdict = answer.deployment, answer.verdict
    table = Table(box=None, pad_edge=False)
    for name in ("item", "verdict", "target", "before", "what was seen"):
        table.add_column(name, overflow="fold")
    for item in answer.items:
        table.add_row(
            plain(item.name),
            line((_name(item.verdict), STYLES.get(item.verdict, ""))),
            plain(item.target),
            _figure(item),
            plain(item.summary),
        )
    console.print(
        line(
            f"{plain(deployment.version)}, deployed {_clock(deployment.time)}: ",
            (_name(verdict), STYLES.get(verdict, "")),
        )
    )
    console.print(table)
    console.print(line(f"as of {_clock(answer.as_of)}; the 72 hours end {_clock(answer.end_time)}"))
    return EXIT_STATUS.get(verdict, UNDECIDED)


def _name(verdict: DeploymentReport.Verdict.ValueType) -> str:
    try:
        return DeploymentReport.Verdict.Name(verdict).lower().replace("_", " ")
    except ValueError:
        return "unknown"


def _figure(item: DeploymentItem) -> str:
    if not item.HasField("before"):
        return "-"
    if item.unit == "1":
        return f"{item.before:.2%}"
    return f"{item.before:,.0f}{' ms' if item.unit == 'ms' else ''}"


def _clock(time: Timestamp) -> str:
    try:
        return f"{time.ToDatetime():%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return "-"
