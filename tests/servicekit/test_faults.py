"""No log or Sentry event has the text of the database driver's errors, which quotes values."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import queue
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import asyncpg
import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from booking_service.monitoring.startup import report_faults
from servicekit import logs

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection
Call = Callable[[Connection, str], Awaitable[object]]


class WordyError(Exception):
    """An error with a text."""


async def _unique(connection: Connection, value: str) -> None:
    await connection.execute("CREATE TEMP TABLE t (a text CONSTRAINT only_one UNIQUE)")
    await connection.executemany("INSERT INTO t VALUES ($1)", [(value,), (value,)])


async def _invalid(connection: Connection, value: str) -> None:
    await connection.execute(f"SELECT '{value}'::int")


async def _unencodable(connection: Connection, value: str) -> None:
    await connection.execute("SELECT $1::int", value)


async def _uncopyable(connection: Connection, value: str) -> None:
    await connection.execute("CREATE TEMP TABLE ids (id uuid)")
    await connection.copy_records_to_table("ids", records=[(value,)])


async def _syntax(connection: Connection, value: str) -> None:
    await connection.execute(f"SELEC '{value}' {value}")


async def _from(connection: Connection, value: str) -> None:
    try:
        await _invalid(connection, value)
    except asyncpg.PostgresError as error:
        raise WordyError(f"it said: {error}") from error


async def _while(connection: Connection, value: str) -> None:
    try:
        await _unique(connection, value)
    except asyncpg.PostgresError as error:
        raise KeyError(str(error))  # noqa: B904 - what is tested


async def _grouped(connection: Connection, value: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_invalid(connection, value))


async def _noted(connection: Connection, value: str) -> None:
    try:
        await _invalid(connection, value)
    except asyncpg.PostgresError as error:
        error.add_note(f"with {value}")
        raise


CASES: list[tuple[Call, str]] = [
    (_unique, "SQLSTATE 23505 (only_one)"),
    (_invalid, "SQLSTATE 22P02"),
    (_unencodable, "SQLSTATE 22000"),
    (_uncopyable, "ValueError"),
    (_syntax, "SQLSTATE 42601"),
    (_from, "SQLSTATE 22P02"),
    (_while, "SQLSTATE 23505 (only_one)"),
    (_grouped, "SQLSTATE 22P02"),
    (_noted, "SQLSTATE 22P02"),
]


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: queue.Queue[bytes] = queue.Queue()

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.put(envelope.serialize())


@pytest.fixture
def sent() -> Iterator[queue.Queue[bytes]]:
    """What report_faults lets out to Sentry."""
    report_faults("http://key@127.0.0.1:9/1")
    transport = Kept()
    client = sentry_sdk.get_client()
    former, client.transport = client.transport, transport
    if former is not None:
        former.kill()
    yield transport.sent
    client.close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def log() -> Iterator[None]:
    """The set-up of logging as it was before, afterwards."""
    # What earlier tests left behind may write a line when it goes: not into the log of this one.
    gc.collect()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("fail", "code"), CASES)
async def test_a_fault_of_the_driver_is_logged_without_its_text(
    empty_dsn: str,
    sent: queue.Queue[bytes],
    capsys: pytest.CaptureFixture[str],
    fail: Call,
    code: str,
) -> None:
    value = f"zq{secrets.token_hex(8)}"
    connection = await asyncpg.connect(empty_dsn)
    try:
        await fail(connection, value)
    except Exception as error:
        kind = type(error).__name__
        sentry_sdk.capture_exception()
        for log_format in ("json", "console"):
            logs.configure(log_format)
            structlog.get_logger("ours").exception("it failed")
            logging.getLogger("theirs").error("it failed", exc_info=True)
            task: asyncio.Future[None] = asyncio.Future()
            task.set_exception(error)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "never retrieved", "exception": error, "future": task}
            )
            task.exception()
    finally:
        await connection.close()
    told = [*sent.queue, capsys.readouterr().err.encode()]
    assert len(told) == 2
    for text in told:
        assert value.encode() not in text
        assert code.encode() in text
        assert kind.encode() in text
        assert fail.__name__.encode() in text


@pytest.mark.usefixtures("log")
def test_other_faults_are_logged_in_full(
    sent: queue.Queue[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        raise WordyError("in so many words")
    except WordyError:
        sentry_sdk.capture_exception()
        logs.configure("json")
        structlog.get_logger("ours").exception("it failed")
    assert b"in so many words" in sent.get_nowait()
    line = json.loads(capsys.readouterr().err)
    assert "WordyError: in so many words" in line["exception"]
    assert "test_other_faults_are_logged_in_full" in line["exception"]


@pytest.mark.usefixtures("log")
async def test_a_fault_of_the_service_in_a_transaction_is_logged_in_full(
    empty_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asyncpg.create_pool(empty_dsn, min_size=1) as pool:
        try:
            async with pool.acquire() as connection, connection.transaction():
                raise WordyError("in so many words")
        except WordyError:
            logs.configure("json")
            structlog.get_logger("ours").exception("it failed")
    assert "WordyError: in so many words" in json.loads(capsys.readouterr().err)["exception"]
