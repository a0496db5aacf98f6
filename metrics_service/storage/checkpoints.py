"""The checkpoint of the fold: rows of state and their position change together, by compare-and-set,
so that neither an outdated process nor a crash can separate them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import asyncpg

from metrics_service.storage import history
from metrics_service.storage.errors import CheckpointConflictError, LogUnavailableError
from metrics_service.storage.session import Session
from metrics_service.storage.sql import QueryGroup

Section = tuple[str, int, bytes]
"""(section, bucket, serialised state)."""

Write: TypeAlias = "Callable[[asyncpg.Connection[Any]], Awaitable[None]]"
"""Changes further tables inside the transaction of a checkpoint."""

_CHECKPOINT: Final = QueryGroup("checkpoint")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after the record at a position, written by code of state_version."""

    position: int
    state_version: int
    rows: list[Section]


class CheckpointStore(Session):
    """Checkpoints, and the second connection, on which they and the log are read."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._generation = 0
        # The writer epoch of a save whose outcome is unknown: the answer to its commit was lost.
        self._uncertain_epoch: int | None = None

    async def load(self) -> Checkpoint:
        """Load the newest checkpoint; position 0 before the first."""
        return await self.using(self._load)

    async def save(
        self,
        position: int,
        state_version: int,
        changed: list[Section],
        removed: list[tuple[str, int]],
        *,
        replace: bool,
        writer_epoch: int,
        also: Sequence[Write] = (),
    ) -> None:
        """Write the changed rows and delete the removed ones, or all rows first with replace; and
        `also` what changes with them.

        CheckpointConflictError when another process has saved a checkpoint since or has become the
        writer. After LogUnavailableError it is unknown which rows are stored: the next save must
        replace them.
        """

        async def write(connection: asyncpg.Connection[Any]) -> int | None:
            await self._settle(connection)
            async with connection.transaction():
                generation: int | None = await connection.fetchval(
                    _CHECKPOINT.advance, position, state_version, writer_epoch, self._generation
                )
                if generation is None:
                    return None
                if replace:
                    await connection.execute(_CHECKPOINT.remove_all_buckets)
                elif removed:
                    await connection.execute(
                        _CHECKPOINT.remove_buckets, *map(list, zip(*removed, strict=True))
                    )
                if changed:
                    await connection.execute(
                        _CHECKPOINT.put_buckets, *map(list, zip(*changed, strict=True))
                    )
                for each in also:
                    await each(connection)
                await history.keep_totals(connection, position, state_version)
                return generation

        try:
            generation = await self.using(write)
        except BaseException:
            self._uncertain_epoch = writer_epoch
            raise
        if generation is None:
            raise CheckpointConflictError("another process has written a checkpoint since")
        self._generation = generation

    async def _load(self, connection: asyncpg.Connection[Any]) -> Checkpoint:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            header = await connection.fetchrow(_CHECKPOINT.get)
            rows = await connection.fetch(_CHECKPOINT.list_buckets)
        if header is None:
            raise LogUnavailableError("the header of the checkpoint is missing")
        self._generation = header["generation"]
        return Checkpoint(
            header["position"],
            header["state_version"],
            [(row["section"], row["bucket"], row["state"]) for row in rows],
        )

    async def _settle(self, connection: asyncpg.Connection[Any]) -> None:
        """Adopt the generation of a save of this process that was committed after all."""
        if self._uncertain_epoch is None:
            return
        generation = await connection.fetchval(_CHECKPOINT.get_generation, self._uncertain_epoch)
        if generation is not None:
            self._generation = generation
        self._uncertain_epoch = None
