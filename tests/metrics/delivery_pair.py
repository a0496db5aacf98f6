"""The two ends of the tracking stream for tests: a sink on real PostgreSQL and loopback gRPC, a
source of given batches, and a state that remembers what was folded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc

from metrics_service import engine as engine_module
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.stream.source import ForkError, LaneDrained, OutBatch
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.ingest.streams import Ingest
from metrics_service.rpc.tracking import TrackingService
from metrics_service.state.counter_base import Counts
from metrics_service.state.funnel.funnel import FunnelFold
from metrics_service.state.journeys.journeys import Journeys
from metrics_service.state.record import LogRecord
from metrics_service.state.series.past import Border, Pasts
from protos.tracking.v1 import event_pb2, tracking_pb2, tracking_pb2_grpc

BOUND_S = 20.0
FACTS = tracking_pb2.LANE_FACTS
TELEMETRY = tracking_pb2.LANE_TELEMETRY


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until condition() is true, at most BOUND_S."""
    try:
        async with asyncio.timeout(BOUND_S):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {BOUND_S} s") from None


class RememberingState:
    """Folds nothing, and remembers every record in the order it came: the oracle of delivery."""

    as_of_us = 0
    border = Border()
    history_due = False

    def __init__(self) -> None:
        self.position = 0
        self.as_of_us = 1
        self.records: list[LogRecord] = []
        self.journeys = Journeys(FunnelFold())

    def apply(self, record: LogRecord) -> None:
        self.position = record.position
        self.records.append(record)

    def quarantine(self, record: LogRecord) -> None:
        self.position = record.position

    def prepare(self) -> Iterator[None]:
        yield from ()

    def settle(self) -> Iterator[None]:
        yield from ()

    def encode_answers(self) -> Iterator[None]:
        yield from ()

    def counters(self) -> Counts:
        return {}

    def go_on_from(self, shown: Counts) -> None:
        pass

    def take_past(self) -> Pasts:
        return {}

    copy_past = take_past

    @property
    def batches(self) -> list[tuple[str, int, int, bytes]]:
        """(producer, epoch, seq, payload) of every batch, as often as it was folded."""
        return [
            (record.producer_id, record.epoch, record.seq, record.payload)
            for record in self.records
            if record.kind == "batch"
        ]

    def payloads(self, producer_id: str) -> list[bytes]:
        return [payload for producer, _, _, payload in self.batches if producer == producer_id]

    def kinds(self, kind: str) -> list[LogRecord]:
        return [record for record in self.records if record.kind == kind]

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        for record in self.records:
            name = f"{record.kind}/{record.producer_id}/{record.epoch}/{record.seq}"
            yield name, record.position, record.payload

    @classmethod
    def load(cls, rows: Iterable[tuple[str, int, bytes]]) -> Self:
        state = cls()
        state.journeys.saved()
        for name, position, payload in sorted(rows, key=lambda row: row[1]):
            if name.startswith("journeys."):
                continue
            kind, producer_id, epoch, seq = name.split("/")
            assert kind in {"batch", "tick", "unclean_end"}
            state.apply(
                LogRecord(
                    position,
                    0,
                    kind,  # type: ignore[arg-type]  # one of the three
                    producer_id,
                    int(epoch),
                    int(seq),
                    payload=payload,
                )
            )
        return state


class HealthRecorder:
    """Remembers the calls of the ingest to the health registry."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.signals: list[tracking_pb2.Signals] = []

    def on_hello(self, instance: str, service: str) -> None:
        self.calls.append(("hello", instance, service))

    def on_heartbeat(
        self, instance: str, service: str, signals: tracking_pb2.Signals, facts_seq: int = 0
    ) -> None:
        self.calls.append(("heartbeat", instance, service))
        self.signals.append(signals)

    def on_goodbye(self, instance: str, service: str) -> None:
        self.calls.append(("goodbye", instance, service))

    def on_closed(self, instance: str, service: str) -> None:
        self.calls.append(("closed", instance, service))


class Sink:
    """Log, fold, ingest and server of one metrics process."""

    def __init__(self, dsn: str, *, port: int = 0, **options: Any) -> None:
        self.dsn = dsn
        self.port = port
        self.health = HealthRecorder()
        log_options = {
            name: options.pop(name)
            for name in ("now_us", "monotonic_s", "tick_s", "unclean_after_s", "retention_days")
            if name in options
        }
        engine_options = {
            name: options.pop(name)
            for name in ("checkpoint_interval_s", "checkpoint_events")
            if name in options
        }
        self.log = EventLog(dsn, **log_options)
        self.engine = Engine(self.log, **engine_options)
        self.ingest = Ingest(self.log, self.engine, self.health, **{"heartbeat_s": 0.2, **options})
        self._server: grpc.aio.Server | None = None

    @property
    def state(self) -> RememberingState:
        state = self.engine.state
        assert isinstance(state, RememberingState)
        return state

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await self.log.start()
        await self.engine.start()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        tracking_pb2_grpc.add_TrackingServiceServicer_to_server(
            TrackingService(self.ingest), self._server
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """End in order: streams, fold with its checkpoint, log."""
        await self.ingest.drain(0.5)
        await self._stop_server()
        await self.engine.stop()
        await self.log.stop()

    async def crash(self) -> None:
        """End as kill -9 does: no drain, no checkpoint, connections cut."""
        await self._stop_server()
        await self.engine._folding.stop()
        await self.engine._preparing.stop()
        if (writer := self.log._writer._task) is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        await self.log._maintenance.stop()
        await self.log.history.close()
        await self.log._checkpoints.close()

    async def _stop_server(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[Sink]:
    """The sink, started, and ended in order."""
    try:
        await sink.start()
        yield sink
    finally:
        await sink.stop()


class ListSource:
    """A producer of given batches; it keeps them all, so that every resume point works."""

    def __init__(self, producer_id: str = "relay", epoch: int = 1) -> None:
        self.lane: tracking_pb2.Lane.ValueType = FACTS
        self.producer_id = producer_id
        self.epoch = epoch
        self.batches: list[OutBatch] = []
        self.acked_seq = 0
        self.opened: list[int] = []
        self.is_fenced = False
        self.succeeds: tuple[str, ...] = ()
        self.forks: list[ForkError] = []
        self._sent_seq = 0
        self._draining = False
        self._news = asyncio.Event()

    def put(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.batches.append(OutBatch(len(self.batches) + 1, 1, payload))
        self._news.set()

    async def open(
        self, resume_after: int, batch_hash: bytes, *, sink_id: str = "", events: int | None = None
    ) -> None:
        if resume_after > len(self.batches):
            raise ForkError("the server has a batch that is not there")
        if resume_after and self._hash(resume_after) != batch_hash:
            raise ForkError("the server has another batch")
        self.opened.append(resume_after)
        self._sent_seq = resume_after

    async def next(self) -> OutBatch:
        while self._sent_seq >= len(self.batches):
            if self._draining:
                raise LaneDrained
            self._news.clear()
            await self._news.wait()
        self._sent_seq += 1
        return self.batches[self._sent_seq - 1]

    async def acked(self, seq: int) -> None:
        assert seq >= self.acked_seq
        self.acked_seq = seq

    async def fenced(self, epoch: int, sink_id: str) -> bool:
        self.is_fenced = True
        return False

    async def forked(self, fork: ForkError) -> None:
        self.forks.append(fork)

    def drain(self) -> None:
        self._draining = True
        self._news.set()

    def _hash(self, seq: int) -> bytes:
        return hashlib.sha256(self.batches[seq - 1].payload).digest()


def events(*sessions: str) -> bytes:
    """An EventList with one view for each session."""
    return event_pb2.EventList(
        events=[
            event_pb2.Event(
                event_id=session.encode().ljust(16, b"."),
                time_us=1,
                session_id=session,
                package_viewed=event_pb2.PackageViewed(package_id="p-1"),
            )
            for session in sessions
        ]
    ).SerializeToString()


def remember(monkeypatch: Any) -> None:
    """Let engines fold into a RememberingState."""
    monkeypatch.setattr(engine_module, "State", RememberingState)


@asynccontextmanager
async def streaming(target: str, *sources: Any, **options: Any) -> AsyncIterator[StreamClient]:
    """A started StreamClient with these lanes, ended without waiting for them."""
    client = StreamClient(target, service="test", instance="i-1", **options)
    for source in sources:
        client.add_lane(source)
    await client.start()
    try:
        yield client
    finally:
        for source in sources:
            client.remove_lane(source)
        await client.stop(1)
