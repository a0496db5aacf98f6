"""The newest deployments, kept in memory so that they are known while their database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog

from metrics_service.storage.deployments import Deployments
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.web.scrape import declarations as declared
from servicekit.background import BackgroundTask
from servicekit.exposition.declare import Family

log = structlog.get_logger()

MAX_SHOWN: Final = 5
READ_S: Final = 30.0


class NewestDeployments:
    """The newest versions that were marked, read every READ_S."""

    def __init__(self, kept: Deployments) -> None:
        self._kept = kept
        self._times_us: dict[str, int] = {}
        self._task = BackgroundTask("newest deployments")

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        await self._task.stop()

    async def read(self) -> None:
        """Read them now. What was known stays while the database cannot be used."""
        try:
            newest = await self._kept.newest(MAX_SHOWN)
        except LogUnavailableError:
            return
        self._times_us = {}
        for deployment in newest:
            self._times_us.setdefault(deployment.version, deployment.time_us)

    def families(self) -> Iterator[Family]:
        times = {(version,): time_us / 1e6 for version, time_us in self._times_us.items()}
        yield Family(declared.DEPLOYMENTS, times)

    async def _run(self) -> None:
        while True:
            try:
                await self.read()
            except Exception:
                log.exception("deployments_unread")
            await asyncio.sleep(READ_S)
