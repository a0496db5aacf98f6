"""The types of connections and rows, by which the rest of the service does not import asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Record: TypeAlias = asyncpg.Record

if TYPE_CHECKING:
    OwnConnection: TypeAlias = asyncpg.Connection[Record]
    Connection: TypeAlias = PoolConnectionProxy[Record] | OwnConnection
else:
    # Generic in their stubs only.
    OwnConnection = asyncpg.Connection
    Connection = PoolConnectionProxy | OwnConnection
