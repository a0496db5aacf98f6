"""The tables whose cells are charted and kept: how a cell is made, read and added up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from metrics_service.state.breakdown.cell import BreakdownCell
from metrics_service.state.business import BusinessCell
from metrics_service.state.errors import ErrorCell
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.funnel.funnel import STEPS
from metrics_service.state.queries.cell import QueryCells, QueryTotals
from metrics_service.state.rpcs import RpcCell
from metrics_service.state.series.kind import merged


class Kept(NamedTuple):
    """How the cells of a table are made and read, and whether they are kept by the hour as well as
    by the day: those with many groups are not. keys: of the plain figures of a metric and day, that
    of the rest among them.
    """

    new: Callable[[], Any]
    decode: Callable[[bytes], Any]
    hourly: bool
    keys: int = 100


TABLES: Final[Mapping[str, Kept]] = MappingProxyType(
    {
        "funnel": Kept(lambda: FunnelCell(len(STEPS)), FunnelCell.decode, hourly=True),
        "business": Kept(BusinessCell, BusinessCell.decode, hourly=True),
        "errors": Kept(ErrorCell, ErrorCell.decode, hourly=True),
        "breakdown": Kept(BreakdownCell, BreakdownCell.decode, hourly=True, keys=21),
        "query_totals": Kept(QueryTotals, QueryTotals.decode, hourly=True),
        "queries": Kept(QueryCells, QueryCells.decode, hourly=False),
        "rpcs": Kept(RpcCell, RpcCell.decode, hourly=False),
    }
)


def total(table: str, parts: Iterable[bytes]) -> Any:
    """Return the sum of encoded cells of a table."""
    kept = TABLES[table]
    return merged(parts, kept.new, kept.decode)


def adding(table: str, parts: Iterable[bytes]) -> Generator[None, None, Any]:
    """Return the sum of encoded cells of a table, one of them per step of the work."""
    kept, found = TABLES[table], None
    for data in parts:
        cell = kept.decode(data)
        if found is None:
            found = cell
        else:
            found.merge(cell)
        yield
    return kept.new() if found is None else found
