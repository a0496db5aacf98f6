"""A pooler between a service and PostgreSQL: what one does to sessions, without its settings.

Each client logs in at the server itself; its server session is then one of the pool, which are lent
out for a transaction, for a statement or for good. The newest that is free is lent first.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

POOLER_PID: Final = 4_000_000
STATEMENT_REFUSED: Final = (
    b"SFATAL\0VFATAL\0C08P01\0Mtransaction blocks not allowed in statement pooling mode\0\0"
)
_READY: Final = b"Z"
_KEY: Final = b"K"


class Session(NamedTuple):
    """A connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def fake_pooler(dsn: str, mode: str) -> AsyncIterator[str]:
    """Pool the sessions of a database in the mode "session", "transaction" or "statement"; gives
    the URL of the pooler.
    """
    address = urlsplit(dsn)
    free: asyncio.LifoQueue[Session] = asyncio.LifoQueue()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # Cancelled at the end; the server of streams takes that for a fault.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                server = await asyncio.open_connection(address.hostname, address.port)
                await _log_in(reader, writer, Session(*server))
                free.put_nowait(Session(*server))
                await _pool(reader, writer, free, mode)
        finally:
            writer.close()

    pooler = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = pooler.sockets[0].getsockname()
    netloc = f"{address.netloc.rpartition('@')[0]}@{host}:{port}"
    try:
        yield address._replace(netloc=netloc).geturl()
    finally:
        pooler.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not free.empty():
            free.get_nowait().writer.close()


async def _log_in(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Session
) -> None:
    """Relay a login; its client is told another process id."""
    length = await reader.readexactly(4)
    server.writer.write(length + await reader.readexactly(struct.unpack("!I", length)[0] - 4))
    answers = asyncio.create_task(_until_ready(server, writer))
    while not answers.done():
        message = asyncio.create_task(_message(reader))
        await asyncio.wait({message, answers}, return_when=asyncio.FIRST_COMPLETED)
        if message.done():
            server.writer.write(b"".join(message.result()))
        else:
            message.cancel()
            await asyncio.wait({message})
    await answers


async def _pool(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    free: asyncio.LifoQueue[Session],
    mode: str,
) -> None:
    """Lend a client sessions, one after the other."""
    owned: list[Session] = []
    answers: asyncio.Task[None] | None = None

    async def answer() -> None:
        status = await _until_ready(owned[0], writer, mode)
        if status == b"I" and mode != "session":
            free.put_nowait(owned.pop())

    try:
        while (message := await _message(reader))[0] != b"X":
            if not owned:
                owned.append(await free.get())
            if answers is None or answers.done():
                answers = asyncio.create_task(answer())
            owned[0].writer.write(b"".join(message))
    finally:
        # In a transaction, or a session's own: the server ends it with the connection.
        for session in owned:
            session.writer.close()


async def _until_ready(
    server: Session, writer: asyncio.StreamWriter, mode: str = "session"
) -> bytes:
    """Relay answers up to ReadyForQuery; return its status."""
    while True:
        kind, length, body = await _message(server.reader)
        if kind == _KEY:
            body = struct.pack("!I", POOLER_PID) + body[4:]
        if kind == _READY and mode == "statement" and body != b"I":
            writer.write(b"E" + struct.pack("!I", len(STATEMENT_REFUSED) + 4) + STATEMENT_REFUSED)
            writer.close()
            return body
        writer.write(kind + length + body)
        if kind == _READY:
            return body


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    kind = await reader.readexactly(1)
    length = await reader.readexactly(4)
    return kind, length, await reader.readexactly(struct.unpack("!I", length)[0] - 4)
