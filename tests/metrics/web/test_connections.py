"""Silent and unfinished requests over real sockets: they end, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import structlog

from metrics_service.web.app import create_app
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from servicekit.http import connections
from servicekit.http.connections import MAX_CONNECTIONS
from servicekit.http.server import HttpServer
from servicekit.identity.gate import EVERYBODY
from tests.metrics.running_service import BOUND_S
from tests.metrics.web.no_figures import no_figures

REQUEST = b"GET /api/health/database HTTP/1.1\r\nHost: farehold\r\n\r\n"
HOUR_S = 3_600.0


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def asks(self, request: bytes = REQUEST) -> bytes:
        """Send a request and return the first line of the answer, empty if there is none."""
        async with asyncio.timeout(BOUND_S):
            self.writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in head.splitlines()
                if line.lower().startswith(b"content-length")
            )
            await self._reader.readexactly(length)
        return head.splitlines()[0]

    async def read(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(BOUND_S):
            return await self._reader.read()

    async def ended(self) -> None:
        """Wait for the server to end the connection; what it said before is ignored."""
        async with asyncio.timeout(BOUND_S):
            with contextlib.suppress(ConnectionResetError):
                while await self._reader.read(65_536):
                    pass

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and self._reader.exception() is None


class Site:
    """A server with a healthy database, and its clients."""

    def __init__(self) -> None:
        self.health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
        app = create_app(no_figures, lambda _: self.health, gate=EVERYBODY)
        self._server = HttpServer(app, host="127.0.0.1", port=0, setting="PORT")
        self._port = 0
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        self._clients.append(client)
        return client

    async def connect_and_read_nothing(self, request: bytes) -> Client:
        """A client that takes a few kilobytes of its answers, and then nothing."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", self._port))
        client = Client(*await asyncio.open_connection(sock=small, limit=1_024))
        self._clients.append(client)
        client.writer.write(request)
        return client

    def connections(self) -> int:
        assert self._server._server is not None
        return len(self._server._server.server_state.connections)

    async def until_connections(self, number: int) -> None:
        async with asyncio.timeout(BOUND_S):
            while self.connections() != number:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.01)

    async def start(self) -> None:
        self._port = await self._server.start()

    async def stop(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        await self._server.stop()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only other connections end one."""
    monkeypatch.setattr(connections, "MAX_REQUEST_S", HOUR_S)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"G",
        REQUEST[:-2],
        b"POST /api/health/database HTTP/1.1\r\nHost: farehold\r\nContent-Length: 9\r\n\r\nx",
        REQUEST + REQUEST[:-1],
    ],
)
async def test_a_request_that_is_not_finished_ends_the_connection(
    begun: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_S", 0.2)
    client = await site.connect()
    client.writer.write(begun)
    await client.ended()


async def test_a_body_that_is_none_is_refused_without_a_fault(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    client = await site.connect()
    with structlog.testing.capture_logs() as lines:
        client.writer.write(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        )
        assert (await client.read()).startswith(b"HTTP/1.1 400 ")
        assert (await (await site.connect()).asks()).startswith(b"HTTP/1.1 200 ")
    assert lines == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_request_byte_by_byte_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_S", 0.2)
    client = await site.connect()

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            client.writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
            while True:
                client.writer.write(b"x")
                await client.writer.drain()
                await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    await client.ended()
    dripping.cancel()


@pytest.mark.usefixtures("_patient")
async def test_silent_connections_shut_nobody_out(site: Site) -> None:
    silent = [await site.connect() for _ in range(MAX_CONNECTIONS + 44)]
    for client in silent[:44]:
        await client.ended()
    real = await site.connect()
    assert await real.asks() == b"HTTP/1.1 200 OK"
    await silent[44].ended()
    assert all(client.is_open for client in silent[45:])


@pytest.mark.usefixtures("_patient")
async def test_the_connection_that_is_idle_for_longest_makes_room(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    monitor = await site.connect()
    silent = [await site.connect() for _ in range(2)]
    for _ in range(5):
        # It was opened before all others, and has said something since.
        assert await monitor.asks() == b"HTTP/1.1 200 OK"
        silent += [await site.connect(), await site.connect()]
        await silent[-4].ended()
        await silent[-3].ended()
    assert await monitor.asks() == b"HTTP/1.1 200 OK"


LARGE = DatabaseHealth(
    status=DatabaseHealth.HEALTHY, reasons=[HealthReason(message="x" * 65_536)] * 200
)
LAST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
FEW = 3


@pytest.mark.parametrize("request_", [REQUEST, LAST, REQUEST * 20], ids=["one", "last", "many"])
async def test_a_client_that_does_not_read_its_answer_is_cut(
    request_: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_S", 0.2)
    monkeypatch.setattr(connections, "MAX_ANSWER_S", 0.2)
    site.health = LARGE
    await site.connect_and_read_nothing(request_)
    await site.until_connections(1)
    await site.until_connections(0)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("request_", [LAST, REQUEST * 20], ids=["last", "many"])
async def test_clients_that_do_not_read_shut_nobody_out(
    request_: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", FEW)
    monkeypatch.setattr(connections, "MAX_ANSWER_S", HOUR_S)
    site.health = LARGE
    for _ in range(2 * FEW):
        await site.connect_and_read_nothing(request_)
    await site.until_connections(FEW)
    site.health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
    for _ in range(2 * FEW):
        assert await (await site.connect()).asks() == b"HTTP/1.1 200 OK"
        await site.until_connections(FEW)
