"""What rules are measured by: the figures of a state, and the verdict on health."""

from __future__ import annotations

from typing import Any, Protocol

from metrics_service.measure.sketch import Sketch
from metrics_service.state.queries.critical import CriticalQuery
from metrics_service.state.queries.fingerprints import Query


class Figures(Protocol):
    """metrics_service.state.watched.Watched."""

    @property
    def as_of_us(self) -> int: ...

    @property
    def dropped(self) -> int: ...

    @property
    def errors_in_five_minutes(self) -> int: ...

    def cell(self, table: str, window_us: int, ended_us: int = 0) -> Any: ...

    def hour(self, table: str, time_us: int) -> Any: ...

    def oldest_hour_us(self, table: str) -> int | None: ...

    def matured(self, table: str, window_us: int) -> Any: ...

    def packages(self, window_us: int) -> dict[str, list[int]]: ...

    def critical_queries(self, ended_after_us: int) -> list[tuple[CriticalQuery, Query]]: ...

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]: ...
