"""`/api/stream` over real sockets: events, and how a stream ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.types import Send

from metrics_service.web import live as live_module
from metrics_service.web import stream as stream_module
from metrics_service.web.app import create_app
from metrics_service.web.live import Live
from metrics_service.web.stream import Streams
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from servicekit.http import connections
from servicekit.http.server import HttpServer
from servicekit.identity.gate import EVERYBODY
from tests.metrics.running_service import BOUND_S, Producer, running, until
from tests.metrics.web.no_figures import no_figures
from tests.metrics.web.test_live import Parts, events_of

STREAM = "/api/stream?window=1h"
LARGE = DatabaseHealth(reasons=[HealthReason(message="x" * 65_536)] * 40)


class Site:
    """A server whose streams never rest, and what it lets go."""

    def __init__(self, *, stall_s: float = 60.0, max_age_s: float = 3_600.0) -> None:
        self.parts = Parts()
        self.health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
        self.live = Live(self.parts.snapshot, lambda _: self.health, self.parts, self.parts.status)
        streams = Streams(self.live, stall_s=stall_s, max_age_s=max_age_s)
        app = create_app(no_figures, lambda _: self.health, gate=EVERYBODY, streams=streams)
        self._server = HttpServer(app, host="127.0.0.1", port=0, setting="METRICS_HTTP_PORT")
        self.port = 0

    async def __aenter__(self) -> Site:
        self.live.start()
        self.port = await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.live.stop()
        await self._server.stop()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=BOUND_S
        ) as client:
            yield client

    async def until_readers(self, number: int) -> None:
        async with asyncio.timeout(BOUND_S):
            while self.live.readers != number:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.01)


async def read(stream: AsyncIterator[bytes], mark: bytes) -> bytes:
    """Read until a mark has come."""
    found = b""
    async with asyncio.timeout(BOUND_S):
        async for piece in stream:
            found += piece
            if mark in found:
                return found
    return found


async def test_a_booking_shows_without_asking_again(metrics_dsn: str) -> None:
    async with (
        running(metrics_dsn, METRICS_ENVIRONMENT="staging") as service,
        Producer(service) as producer,
        httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client,
    ):
        producer.book(1)
        await until(lambda: service.server.engine.state.revision, "a booking")
        address = f"http://127.0.0.1:{service.http_port}/api/stream"
        await _watch(client, address, lambda: producer.book(2))


async def _watch(client: httpx.AsyncClient, address: str, book: Callable[[], None]) -> None:
    async with client.stream("GET", address) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        stream = answer.aiter_bytes()
        begun = await read(stream, b"event: snapshot")
        assert begun.startswith(b"retry: 2000\n\n")
        status = next(data for name, _, data in events_of(begun[13:]) if name == "status")
        assert (status["environment"], status["role"], status["log"]) == (
            "staging",
            "active",
            "open",
        )
        assert 0 <= status["lag_s"] < BOUND_S
        assert list(status) == [
            "revision",
            "as_of",
            "role",
            "log",
            "lag_s",
            "version",
            "environment",
            "data_since",
        ]
        assert status["as_of"] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))
        book()
        assert b'"business":{"confirmed":3' in await read(stream, b'"business":{"confirmed":3')


async def test_a_stream_lasts_longer_than_an_answer_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_S", 0.2)
    monkeypatch.setattr(connections, "MAX_ANSWER_S", 0.2)
    monkeypatch.setattr(live_module, "GAP_S", 0.02)
    async with Site() as site, site.client() as client, client.stream("GET", STREAM) as answer:
        stream = answer.aiter_bytes()
        begun_s = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun_s + 0.8:
            site.parts.revision += 1
            await read(stream, b"event: snapshot")
        assert site.live.readers == 1
    await site.until_readers(0)


async def test_a_reader_that_leaves_is_let_go() -> None:
    async with Site() as site:
        async with site.client() as client, client.stream("GET", STREAM) as answer:
            await read(answer.aiter_bytes(), b"event: alerts")
            assert site.live.readers == 1
        await site.until_readers(0)


async def test_a_reader_that_reads_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "GAP_S", 0.02)
    monkeypatch.setattr(live_module, "HEALTH_S", 0.0)
    async with Site(stall_s=0.3) as site:
        site.health = LARGE
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", site.port))
        reader, writer = await asyncio.open_connection(sock=small, limit=1_024)
        writer.write(f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await site.until_readers(1)
        await site.until_readers(0)
        async with asyncio.timeout(BOUND_S):
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(65_536):
                    pass
        writer.close()


async def test_little_is_held_for_a_reader_that_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_module, "GAP_S", 0.0)
    monkeypatch.setattr(live_module, "LEAST_GAP_S", 0.0)
    monkeypatch.setattr(live_module, "HEALTH_S", 0.0)
    sent: list[int] = []
    write = stream_module._write

    async def counted(send: Send, frame: bytes, *, more: bool = True) -> None:
        await write(send, frame, more=more)
        sent.append(len(frame))

    monkeypatch.setattr(stream_module, "_write", counted)
    async with Site(stall_s=0.5) as site:
        # About the size of a snapshot.
        site.health = DatabaseHealth(reasons=[HealthReason(message="x" * 8_192)])
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1_024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a reading transport
        writer.write(f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await site.until_readers(1)
        await site.until_readers(0)
        writer.transport.abort()
    # With what uvicorn and the client's system hold.
    assert sum(sent) < 8 * connections.STREAM_BUFFER_BYTES


async def test_streams_end_first_and_none_is_waited_for() -> None:
    async with Site() as site, site.client() as client, asyncio.timeout(BOUND_S):
        async with client.stream("GET", STREAM) as answer:
            stream = answer.aiter_bytes()
            await read(stream, b"event: alerts")
            site.live.close()
            # Its end is a whole answer: the browser opens another one.
            assert await read(stream, b"never") == b""
        refused = await client.get(STREAM)
        assert (refused.status_code, refused.json()["reason"]) == (503, "DRAINING")


async def test_a_service_that_stops_ends_its_streams_whole(metrics_dsn: str) -> None:
    async with (
        running(metrics_dsn) as service,
        httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client,
        client.stream("GET", f"http://127.0.0.1:{service.http_port}{STREAM}") as answer,
    ):
        stream = answer.aiter_bytes()
        await read(stream, b"event: status")
        stopping = asyncio.create_task(service.server.stop())
        # A stream that is cut instead raises here.
        await read(stream, b"never")
        await stopping


async def test_an_old_stream_ends_so_that_who_may_read_is_asked_again() -> None:
    async with Site(max_age_s=0.2) as site, site.client() as client:
        async with client.stream("GET", STREAM) as answer:
            assert b"event: alerts" in await read(answer.aiter_bytes(), b"never")
        await site.until_readers(0)


async def test_a_full_house_and_a_bad_window_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "MAX_READERS", 1)
    async with Site() as site, site.client() as client:
        head = await client.head(STREAM)
        assert (head.status_code, site.live.readers) == (200, 0)
        bad = await client.get("/api/stream?window=soon")
        assert (bad.status_code, bad.json()["parameter"]) == (400, "window")
        async with client.stream("GET", STREAM) as answer:
            await read(answer.aiter_bytes(), b"retry")
            full = await client.get(STREAM)
            assert (full.status_code, full.json()["reason"]) == (429, "TOO_MANY_STREAMS")
            assert full.headers["retry-after"] == "5"
            # It keeps nobody else out.
            assert (await client.get("/api/health/database")).status_code == 200
