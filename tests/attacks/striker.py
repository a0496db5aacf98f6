"""The process of the attackers. It leaves the cores to others: its priority is the lowest, and each
attack has a rate.

It reads a line for each command: the number of an attack to begin it, with the word "bare" to
attack the bare server; an empty line to end it, and then it answers what was tried, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, replace
from typing import Final

from tests.attacks.strike import Addresses, Attack, Strike
from tests.attacks.table import attacks

LOWEST_PRIORITY: Final = 19
END_S: Final = 25.0


async def main(addresses: Addresses) -> None:
    os.nice(LOWEST_PRIORITY)
    known = attacks()
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).strip():
        number, _, bare = line.decode().partition(" ")
        at = replace(addresses, booking=addresses.bare, metrics=addresses.bare)
        strike = Strike(at if bare else addresses)
        running = asyncio.create_task(_run(known[int(number)], strike))
        await lines.readline()
        strike.stop()
        try:
            async with asyncio.timeout(END_S):
                await running
        except TimeoutError:
            strike.tally.check(False, f"it did not end within {END_S:.0f} s")
        print(json.dumps(asdict(strike.tally)), flush=True)


async def _run(attack: Attack, strike: Strike) -> None:
    try:
        await attack.run(strike)
    except Exception as error:
        strike.tally.check(False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        asyncio.run(main(Addresses(*sys.argv[1:])))
