"""Money of several currencies, which are never summed."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_service.cli.output import cells
from metrics_service.cli.output.sheet import NOTHING, Cell
from metrics_service.cli.plain import plain
from protos.metrics.v1.metrics_pb2 import Revenue


def revenue(found: Iterable[Revenue]) -> Cell:
    """Return the net of each currency: "1,234.00 EUR, 5.00 USD"; for one alone it compares."""
    amounts = [
        (cells.money(each.net_minor, each.exponent), plain(each.currency, 8)) for each in found
    ]
    if not amounts:
        return NOTHING
    values = "; ".join(f"{amount.value} {currency}" for amount, currency in amounts)
    return Cell(values, ", ".join(f"{amount.shown} {currency}" for amount, currency in amounts))
