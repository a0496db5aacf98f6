"""Keeps a tracking stream to metrics_service: one connection at a time carries all lanes and the
heartbeats of a process, and is re-established for as long as the process lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable
from typing import Final

import structlog

from metrics_service.client.stream.connection import Connection
from metrics_service.client.stream.lane_sender import LaneEnd
from metrics_service.client.stream.source import (
    ForkError,
    LaneDrained,
    LaneSource,
    NewEpoch,
    OutBatch,
    Speaker,
)
from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc
from servicekit.channels import PLAINTEXT, ClientFiles
from servicekit.pem import PemError

__all__ = ["ForkError", "LaneDrained", "LaneSource", "NewEpoch", "OutBatch", "StreamClient"]

log = structlog.get_logger()

RECONNECT_FIRST_S: Final = 0.1
MAX_RECONNECT_S: Final = 5.0

MAX_FRAME_BYTES: Final = 64 * 1024
"""No frame of a server is larger; the call ends with one that is."""

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # Without it a frozen peer is detected only after a minute, despite the other two.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The delay between attempts is made here, with jitter; a shared subchannel would add another.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
)


_NUMBER: Final = re.compile(r"-?\d+")


class StreamClient:
    """Streams the lanes of one process to metrics_service at target, such as "127.0.0.1:50052".

    signals is called for each heartbeat and must not block. Nothing here raises to its caller:
    while the server is unreachable, sources keep their batches. `files` are those of TLS, read for
    each connection. With `backfill` the events count at the times they give, which a server must
    allow.
    """

    def __init__(
        self,
        target: str,
        *,
        service: str,
        instance: str,
        signals: Callable[[], tracking_pb2.Signals] = tracking_pb2.Signals,
        files: ClientFiles = PLAINTEXT,
        backfill: bool = False,
    ) -> None:
        self._target = target
        self._speaker = Speaker(service, instance, backfill)
        self._signals = signals
        self._files = files
        self._sources: list[LaneSource] = []
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the server has answered on the current connection."""
        return self._connection is not None and self._connection.heard

    def add_lane(self, source: LaneSource) -> None:
        """Send the batches of a source until it is removed or fenced for good."""
        if source not in self._sources:
            self._sources.append(source)
            if self._connection is not None:
                self._connection.add(source)

    def remove_lane(self, source: LaneSource) -> None:
        """Stop sending a source's batches."""
        if source in self._sources:
            self._sources.remove(source)
            if self._connection is not None:
                self._connection.remove(source)

    def beat(self) -> None:
        """Send a heartbeat now, because the signals have changed."""
        if self._connection is not None:
            self._connection.beat()

    async def start(self) -> None:
        """Start connecting; does not wait for the server."""
        self.start_soon()

    def start_soon(self) -> None:
        """Start, from a caller that cannot await."""
        self._task = asyncio.create_task(self._run(), name="tracking stream")

    async def stop(self, drain_timeout_s: float) -> None:
        """Let the sources send what they hold, send Goodbye, and end within the given time."""
        if self._task is None:
            return
        for source in self._sources:
            source.drain()
        self._stopping.set()
        if self._connection is not None:
            self._connection.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout_s):
                await asyncio.shield(self._task)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._sources:
            left = [source.producer_id for source in self._sources]
            log.warning("stream_not_drained", producers=left)

    async def _run(self) -> None:
        failures = 0
        broken: set[str] = set()
        while not (self._stopping.is_set() and not self._sources):
            try:
                channel = self._files.open(self._target, CHANNEL_OPTIONS)
            except PemError as error:
                # As while one is replaced: it was good when the process started.
                log.warning("stream_lost", target=self._target, reason=str(error))
                await self._delay(MAX_RECONNECT_S)
                continue
            started_s = asyncio.get_running_loop().time()
            connection = self._connection = Connection(
                tracking_pb2_grpc.TrackingServiceStub(channel).Stream(),
                speaker=self._speaker,
                signals=self._signals,
                on_lane_end=self._lane_ended,
            )
            try:
                for source in self._sources:
                    connection.add(source)
                if self._stopping.is_set():
                    connection.finish()
                reason = await connection.run()
            finally:
                self._connection = None
                await channel.close()
            if connection.finished:
                return
            stood_s = asyncio.get_running_loop().time() - started_s
            if _held(connection, stood_s):
                failures = 0
                broken.clear()
            # What a person has to mend is said also where the stream was lost before: gRPC hides a
            # refusal behind INTERNAL when a frame was just being written.
            lasting = connection.broke_rules or connection.refused
            cause = _NUMBER.sub("", reason) if lasting else ""
            if failures == 0 or (cause and cause not in broken):
                write = log.info if connection.drained else log.warning
                write("stream_lost", target=self._target, reason=reason)
            broken.add(cause)
            limit_s = min(MAX_RECONNECT_S, RECONNECT_FIRST_S * 2 ** min(failures, 10))
            failures += 1
            await self._delay(random.uniform(0, limit_s))  # noqa: S311 - jitter

    async def _delay(self, seconds: float) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _lane_ended(self, source: LaneSource, end: LaneEnd) -> None:
        if source in self._sources:
            self._sources.remove(source)
        log.info("lane_ended", producer=source.producer_id, end=end.value)


def _held(connection: Connection, stood_s: float) -> bool:
    """Whether a connection was of use, so that the pause before the next one starts again: a
    Welcome alone is none, since a server may send it and end the stream for ever. One that has
    stood for long may have been drained for its age.
    """
    if connection.broke_rules:
        return False
    stood = connection.welcomed and stood_s > MAX_RECONNECT_S
    return stood or (connection.progressed and not connection.drained)
