"""A process killed between the provider's success and our commit: the money is never forgotten."""

from __future__ import annotations

import asyncio
import pickle
import sys
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from booking_service.domain.booking import PaymentKind, State
from booking_service.domain.commands import CompleteBooking, ExpireHolds, RecordPayment
from tests.booking.group_commit.harness import PRICE, Harness, drift, reasons, record
from tests.booking.seed import eventually

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[3]
WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'child' AND wait_event_type = 'Lock'
    AND query LIKE '%INSERT INTO outbox%'
"""
LEFT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'child'
"""


async def killed_before_its_commit(harness: Harness, command: RecordPayment) -> None:
    """A process that does all of the work but the last statement, and then dies."""
    outside = await asyncpg.connect(harness.dsn)
    transaction = outside.transaction()
    await transaction.start()
    await outside.execute("LOCK TABLE outbox IN SHARE MODE")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.booking.group_commit.command_child", harness.dsn),
        harness.clock.time.isoformat(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    talking = asyncio.create_task(child.communicate(pickle.dumps(command)))

    async def waits() -> bool:
        assert child.returncode is None
        # On a separate connection: statistics do not change within a transaction.
        return bool((await harness.query(WAITS))[0])

    async def is_gone() -> bool:
        return not (await harness.query(LEFT))[0]

    try:
        await eventually(waits, within_s=20.0)
    finally:
        child.kill()
        output, _ = await talking
        await transaction.rollback()
        await outside.close()
    # Its server process notices when it next sends to it.
    await eventually(is_gone)
    assert output == b""


@pytest.mark.parametrize("sold_meanwhile", [False, True])
async def test_a_payment_whose_process_is_killed_is_taken_or_due_back_after_redelivery(
    harness: Harness, sold_meanwhile: bool
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    event = record(booking, PaymentKind.CAPTURED, PRICE)
    await killed_before_its_commit(harness, event)
    # Nothing of it happened, and nothing is left of it.
    assert (await harness.booking(booking.id)).state is State.PENDING_PAYMENT
    assert (await harness.query("SELECT count(*) FROM payments"))[0] == 0
    if sold_meanwhile:
        harness.clock.advance(timedelta(minutes=16))
        await harness.submit(ExpireHolds(package_id))
        await harness.start(package_id)
    outcomes = [(await reasons([harness.submit(event)]))[0] for _ in range(2)]
    row = await harness.query(
        "SELECT p.state, b.state, (SELECT count(*) FROM refunds) FROM payments AS p"
        " INNER JOIN bookings AS b ON p.booking_id = b.id"
    )
    if sold_meanwhile:
        assert outcomes == ["HOLD_EXPIRED"] * 2
        assert tuple(row) == ("REFUND_DUE", "EXPIRED", 1)
    else:
        assert outcomes == ["OK"] * 2
        assert tuple(row) == ("CAPTURED", "CONFIRMED", 0)
    assert await drift(harness.dsn) == 0
