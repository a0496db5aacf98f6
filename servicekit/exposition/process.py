"""What a process says of itself: build, CPU, memory, files, garbage collector and event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from servicekit.background import BackgroundTask
from servicekit.exposition.declare import Family, Metric, once

PACKAGE: Final = "farehold"

BUILD: Final = Metric(
    "farehold_build_info",
    "info",
    "The code that runs; its revision is a setting.",
    ("version", "revision", "python"),
    everywhere=True,
)
LAG: Final = Metric(
    "farehold_event_loop_lag_seconds",
    "gauge",
    "The longest that the event loop was late in the last 15 to 30 seconds.",
    everywhere=True,
)
CPU: Final = Metric(
    "process_cpu_seconds_total", "counter", "CPU time, of user and system.", everywhere=True
)
STARTED: Final = Metric(
    "process_start_time_seconds", "gauge", "When the process began.", everywhere=True
)
RESIDENT: Final = Metric(
    "process_resident_memory_bytes", "gauge", "Memory in use.", everywhere=True
)
VIRTUAL: Final = Metric(
    "process_virtual_memory_bytes", "gauge", "Address space in use.", everywhere=True
)
FILES: Final = Metric("process_open_fds", "gauge", "Open file descriptors.", everywhere=True)
MAX_FILES: Final = Metric(
    "process_max_fds", "gauge", "The most file descriptors that may be open.", everywhere=True
)
COLLECTIONS: Final = Metric(
    "python_gc_collections_total",
    "counter",
    "Runs of the garbage collector.",
    ("generation",),
    everywhere=True,
)
COLLECTED: Final = Metric(
    "python_gc_objects_collected_total",
    "counter",
    "Objects that the garbage collector has freed.",
    ("generation",),
    everywhere=True,
)
UNCOLLECTABLE: Final = Metric(
    "python_gc_objects_uncollectable_total",
    "counter",
    "Objects that the garbage collector found and could not free.",
    ("generation",),
    everywhere=True,
)
METRICS: Final = (
    *(BUILD, LAG, CPU, STARTED, RESIDENT, VIRTUAL, FILES, MAX_FILES),
    *(COLLECTIONS, COLLECTED, UNCOLLECTABLE),
)

TICK_S: Final = 0.1
SPAN_S: Final = 15.0

_PROC: Final = Path("/proc/self")


class LoopLag:
    """How late the event loop runs what is due, looked at every TICK_S."""

    def __init__(self) -> None:
        self._task = BackgroundTask("event loop lag")
        self._longest_s = self._former_s = 0.0
        self._turned_s = time.monotonic()

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        await self._task.stop()

    @property
    def longest_s(self) -> float:
        """The longest lag of the last SPAN_S to twice as long."""
        self._turn()
        return max(self._longest_s, self._former_s)

    def saw(self, lag_s: float) -> None:
        """Take one lag."""
        self._turn()
        self._longest_s = max(self._longest_s, lag_s)

    async def _run(self) -> None:
        while True:
            due_s = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self.saw(time.monotonic() - due_s)

    def _turn(self) -> None:
        now_s = time.monotonic()
        spans = (now_s - self._turned_s) // SPAN_S
        if spans:
            self._former_s = self._longest_s if spans == 1 else 0.0
            self._longest_s = 0.0
            self._turned_s += spans * SPAN_S


class Process:
    """Collects METRICS. revision: that of the code, "" where it is not known."""

    def __init__(self, revision: str, lag: LoopLag) -> None:
        self._build = (_version(), revision, platform.python_version())
        self._lag = lag
        self._started_s = _started_s()

    def families(self) -> Iterator[Family]:
        """Yield the families; memory and files where the system tells them."""
        yield Family(BUILD, {self._build: 1})
        yield once(LAG, self._lag.longest_s)
        yield once(CPU, time.process_time())
        yield once(STARTED, self._started_s)
        yield once(MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if _PROC.exists():
            virtual, resident, *_ = map(int, (_PROC / "statm").read_text().split())
            page = resource.getpagesize()
            yield once(RESIDENT, resident * page)
            yield once(VIRTUAL, virtual * page)
            yield once(FILES, len(os.listdir(_PROC / "fd")))
        generations = list(enumerate(gc.get_stats()))
        for metric, name in (
            (COLLECTIONS, "collections"),
            (COLLECTED, "collected"),
            (UNCOLLECTABLE, "uncollectable"),
        ):
            yield Family(metric, {(str(number),): each[name] for number, each in generations})


def _started_s() -> float:
    """Return when the process began; where the system does not tell, now."""
    try:
        # The name before the fields may have spaces; the first field after it is the third.
        fields = (_PROC / "stat").read_text().rpartition(")")[2].split()
        since_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time()


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""
