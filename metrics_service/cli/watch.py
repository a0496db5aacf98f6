"""The live terminal view: draws each snapshot of StreamMetrics in place, shows a lost connection
and reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Final

import grpc
import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from metrics_service.cli.asking import NotReachableError
from metrics_service.cli.frame import render, without_connection
from metrics_service.cli.options import ASK, Options, shared
from metrics_service.cli.output.write import console as standard_output
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from servicekit.channels import PLAINTEXT, ClientFiles
from servicekit.start import run

CONNECT_TIMEOUT_S: Final = 2.0
MAX_BACKOFF_S: Final = 5.0
SLOWEST_TIMEOUT_S: Final = 1.0


@shared(ASK, ("no_color",))
def watch(options: Options) -> None:
    """Show funnel, bookings, queries and health live in the terminal; Ctrl-C ends it."""
    # Without a handler, gRPC would write a traceback over the view for an answer it cannot read.
    logging.getLogger("grpc").addHandler(logging.NullHandler())
    screen = standard_output(no_color=options.no_color)

    async def main(stop: asyncio.Event) -> None:
        await follow(options.target, stop, console=screen, files=options.files)

    raise typer.Exit(run(main, uvloop=False))


async def follow(
    target: str,
    stop: asyncio.Event,
    *,
    console: Console | None = None,
    frames: int | None = None,
    files: ClientFiles = PLAINTEXT,
) -> None:
    """Show the metrics of the service at target until `stop`, or for a number of frames.

    Raises NotReachableError when the first connection fails; later losses are retried.
    """
    console = console or Console()
    async with files.open(target) as channel:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await channel.channel_ready()
        except TimeoutError:
            raise NotReachableError(
                f"metrics_service is not reachable at {target}: start it, as `make run` does"
            ) from None
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            showing = asyncio.create_task(_show(channel, live, frames))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    showing.result()
            finally:
                for task in (showing, stopping):
                    task.cancel()
                await asyncio.gather(showing, stopping, return_exceptions=True)


async def _show(channel: grpc.aio.Channel, live: Live, frames: int | None) -> None:
    shown = 0
    view: RenderableType = Text("waiting for the first snapshot ...", style="dim")
    async for update in _updates(channel):
        if isinstance(update, str):
            live.update(without_connection(view, update), refresh=True)
            continue
        view = update
        live.update(view, refresh=True)
        shown += 1
        if shown == frames:
            return


async def _updates(channel: grpc.aio.Channel) -> AsyncIterator[RenderableType]:
    """Yield frames, and one line of text (a str) whenever the stream is lost."""
    stub = metrics_pb2_grpc.MetricsServiceStub(channel)
    backoff_s = 0.5
    while True:
        try:
            async for response in stub.StreamMetrics(metrics_pb2.StreamMetricsRequest()):
                if response is None:  # gRPC could not read it
                    yield "the answer is not of this version; trying again ..."
                    break
                backoff_s = 0.5
                yield render(response, await _slowest(stub))
        except grpc.aio.AioRpcError as error:
            yield f"connection lost ({error.code().name.lower()}); trying again ..."
        await asyncio.sleep(random.uniform(0.1, backoff_s))  # noqa: S311 - jitter, no secret
        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)


async def _slowest(
    stub: metrics_pb2_grpc.MetricsServiceAsyncStub,
) -> metrics_pb2.SlowQuery | None:
    """Fetch the query that has run longest now, or else the slowest that ever ended."""
    request = metrics_pb2.ListSlowQueriesRequest(limit=1)
    try:
        answer = await stub.ListSlowQueries(request, timeout=SLOWEST_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        # The frame is shown without it; a lost connection shows in the stream.
        return None
    return answer.queries[0] if answer and answer.queries else None
