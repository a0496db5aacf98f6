"""The audit trail of access: who may call, at the start and at each change of the file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import structlog

from servicekit.background import BackgroundTask
from servicekit.clock import wall_us
from servicekit.handlers import LineLimit
from servicekit.identity.identities import Identities

MAX_CHANGE_BYTES: Final = 16 * 1024
"""Of the names of one change and what is said of them; those beyond are counted."""

MAX_PENDING: Final = 100
"""Changes that wait for the database; beyond them the oldest are only in the log."""

LOOK_S: Final = 1.0
"""How often the file is looked at, whether calls arrive or not, and a failed write is repeated."""

LINE_GAP_S: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What a process found: at its start every identity as `added`, then the differences.

    Each identity has the text of `Identities.texts`, a changed one that of before and after.
    `file_sha256` is None where callers are not told apart. `left_out` counts the names that are in
    none of the three. `time` is that of this machine.
    """

    id: UUID
    time: datetime
    change: str
    file_sha256: str | None
    identities: int
    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]
    left_out: int

    def columns(self, instance: str) -> tuple[object, ...]:
        """Return the row of a process in the table access_events."""
        return (
            *(self.id, self.time, instance, self.change, self.file_sha256, self.identities),
            *(json.dumps(each) for each in (self.added, self.removed, self.changed)),
            self.left_out,
        )


def compare(before: Identities | None, after: Identities | None) -> AccessChange:
    """Return the change between two files; `before` is None at the start of a process."""
    old = before.texts if before else {}
    new = after.texts if after else {}
    added: dict[str, str] = {}
    removed: dict[str, str] = {}
    changed: dict[str, tuple[str, str]] = {}
    left_bytes, left_out = MAX_CHANGE_BYTES, 0
    for name in sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)):
        was, now = old.get(name), new.get(name)
        left_bytes -= sum(len(each.encode()) for each in (name, was, now) if each)
        if left_bytes < 0:
            left_out += 1
        elif was is None:
            added[name] = new[name]
        elif now is None:
            removed[name] = was
        else:
            changed[name] = (was, now)
    return AccessChange(
        uuid4(),
        datetime.fromtimestamp(wall_us() / 1_000_000, UTC),
        "RELOADED" if before else "STARTED",
        after.file_sha256 if after else None,
        len(new),
        added,
        removed,
        changed,
        left_out,
    )


class AccessTrail:
    """Writes the changes of access to the database of the service, each once and in their order.

    `take` looks at the file and returns the changes since it was called last; `write` stores one,
    and may raise whatever it does: it is called again with the same one until it returns.
    """

    def __init__(
        self,
        take: Callable[[], list[AccessChange]],
        write: Callable[[AccessChange], Awaitable[None]],
    ) -> None:
        self._take = take
        self._write = write
        self._pending: list[AccessChange] = []
        self._lines = LineLimit(gap_s=LINE_GAP_S)
        self._task = BackgroundTask("access trail")

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        """Stop looking; a change that was not written yet is only in the log."""
        await self._task.stop()

    async def look(self) -> None:
        """Write what has changed. Raises what `write` does."""
        self._pending = [*self._pending, *self._take()][-MAX_PENDING:]
        while self._pending:
            await self._write(self._pending[0])
            del self._pending[0]

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:
                # Whatever it is, the change is kept and written later.
                if self._lines.take() is not None:
                    log.error(
                        "access_trail_failed",
                        error=type(error).__name__,
                        waiting=len(self._pending),
                    )
            await asyncio.sleep(LOOK_S)
