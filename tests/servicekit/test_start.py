"""How a process begins."""

from __future__ import annotations

import asyncio
import gc

from servicekit.start import run

MAX_OBJECTS = 1_000
"""Of those that a process makes by itself as it begins; its modules are 80,000 and more."""


def test_a_garbage_collection_does_not_walk_through_the_modules() -> None:
    walked: list[int] = []

    async def main(_: asyncio.Event) -> None:
        walked.append(len(gc.get_objects()))

    try:
        assert run(main, uvloop=False) == 0
    finally:
        gc.unfreeze()
    assert walked[0] < MAX_OBJECTS < len(gc.get_objects())
