"""Every statement of metrics_service is used, valid, and lists its columns."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

from metrics_service.storage.sql import QUERIES, SQL_DIR

STARS = re.compile(r"\bSELECT\s+\*|,\s*\*|\w\.\*|RETURNING\s+\*", re.IGNORECASE)
STATEMENT = re.compile(r"\"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER)\s+\w")
SOURCES = [path for path in SQL_DIR.parent.parent.rglob("*.py") if "client" not in path.parts]


async def test_every_statement_is_accepted_by_a_migrated_database(metrics_dsn: str) -> None:
    connection = await asyncpg.connect(metrics_dsn)
    refused = {}
    try:
        for name, sql in QUERIES.items():
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
    finally:
        await connection.close()
    assert refused == {}
    assert len(QUERIES) > 15


def test_every_statement_is_used() -> None:
    code = "\n".join(path.read_text() for path in SOURCES)
    unused = []
    for name in QUERIES:
        model, operation = name.split(".")
        if not re.search(rf"\b_{model.upper()}\.{operation}\b", code):
            unused.append(name)
    assert unused == []


def test_columns_are_always_listed() -> None:
    starred = [name for name, sql in QUERIES.items() if STARS.search(_without_comments(sql))]
    assert starred == []


def test_only_the_names_of_partitions_are_put_together_in_code() -> None:
    assembling = {path.name for path in SOURCES if STATEMENT.search(path.read_text())}
    assert assembling == {"partitions.py"}


def test_every_file_is_loaded() -> None:
    named = sum(_count(path) for path in SQL_DIR.glob("*.sql"))
    assert len(QUERIES) == named > 0


def _count(path: Path) -> int:
    return len(re.findall(r"^-- name: ", path.read_text(), re.MULTILINE))


def _without_comments(sql: str) -> str:
    return re.sub(r"--.*", "", sql)
