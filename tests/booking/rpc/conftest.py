"""One database for all tests of the RPCs, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servicekit.postgres import PostgresServer

# Triggers prevent the removal of audit events; they are disabled meanwhile.
EMPTY = """
DO $$ BEGIN
    SET LOCAL session_replication_role = replica;
    EXECUTE (
        SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ('schema_migrations', 'relay')
    );
END $$
"""


@pytest.fixture(scope="session")
def shared_dsn(postgres: PostgresServer, booking_template: str) -> Iterator[str]:
    """A migrated database for all tests of this folder: making one takes longer than most."""
    yield postgres.create_database("booking_rpc", template=booking_template)
    postgres.drop_database("booking_rpc")


@pytest.fixture
def booking_dsn(postgres: PostgresServer, shared_dsn: str) -> str:
    """The shared database, emptied."""
    postgres.psql("booking_rpc", EMPTY)
    return shared_dsn
