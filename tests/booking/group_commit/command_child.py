"""A copy of the service in a separate process, which carries out one command and prints that.

Called with the URL of the database, the time as ISO 8601, and on standard input the pickled
command. It is started to be killed.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from datetime import datetime

from booking_service.group_commit.bus import CommandBus
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database


async def main(dsn: str, now: str) -> None:
    command = pickle.loads(sys.stdin.buffer.read())
    database = Database(dsn, clock=SetClock(datetime.fromisoformat(now)), application_name="child")
    await database.open()
    bus = CommandBus(database, lock_timeout_s=30.0)
    bus.start()
    await bus.submit(command, caller="child", rpc="child")
    print("committed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
