"""What a plan says: the indexes it uses, the tables it scans from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from hashlib import md5
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from booking_service.storage.sql import QUERIES

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY: Final = date(2026, 5, 20)
LEAST: Final = UUID(int=0)
GREATEST: Final = UUID(int=2**128 - 1)

LARGE: Final = frozenset(
    {
        "booking_events",
        "bookings",
        "catalog_events",
        "package_days",
        "payment_events",
        "payments",
        "refunds",
        "reviews",
        "user_profiles",
        *(f"idempotency_keys_{slot}" for slot in range(7)),
    }
)
"""The tables of the seed that nothing may scan: all but those of vendors and packages."""


class Plan(NamedTuple):
    """`index_only` are those of `indexes` whose table is not read."""

    indexes: set[str]
    index_only: set[str]
    scanned: set[str]
    nodes: list[dict[str, Any]]


def seeded_id(name: str) -> UUID:
    """The id of a row of the seed, such as "package17"."""
    return UUID(md5(name.encode(), usedforsecurity=False).hexdigest())


async def explain(
    connection: asyncpg.Connection[asyncpg.Record],
    name: str,
    *args: object,
    options: str = "FORMAT JSON",
) -> Plan:
    """The plan of a named statement for these very parameters."""
    text = await connection.fetchval(f"EXPLAIN ({options}) {QUERIES[name].sql}", *args)
    nodes = list(_nodes(json.loads(text)[0]["Plan"]))
    return Plan(
        {node["Index Name"] for node in nodes if "Index Name" in node},
        {node["Index Name"] for node in nodes if node["Node Type"] == "Index Only Scan"},
        {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"},
        nodes,
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
