"""Declares everything beyond asyncpg's public interface that this package uses of asyncpg 0.32, in
one place.
"""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg import cursor, pool, prepared_stmt

if TYPE_CHECKING:

    class Connection(asyncpg.Connection[asyncpg.Record]):
        """Every way to run a query but execute without arguments ends in one of these."""

        _protocol: Any
        _listeners: Any
        _log_listeners: Any
        _top_xact: Any
        _pool_holder: Any

        def _check_open(self) -> None: ...
        async def _execute(self, *args: Any, **kwargs: Any) -> Any: ...
        async def _executemany(self, *args: Any, **kwargs: Any) -> Any: ...
        async def _prepare(self, *args: Any, **kwargs: Any) -> Any: ...
        async def _copy_in(self, *args: Any) -> str: ...
        async def _copy_out(self, *args: Any) -> str: ...
        async def _introspect_types(self, *args: Any) -> Any: ...
        async def _introspect_type(self, *args: Any) -> Any: ...

    class _Resource:
        _connection: Any
        _state: Any
        _query: str
        _args: Sequence[object]
        _prefetch: int | None
        _timeout: float | None
        _record_class: Any
        _exhausted: bool
        _buffer: Any

        def _check_conn_validity(self, method: str) -> None: ...
        def __del__(self) -> None: ...

    class PreparedStatement(_Resource, prepared_stmt.PreparedStatement[asyncpg.Record]):
        _connection: Any

        def __init__(self, connection: Any, query: str, state: Any) -> None: ...

    class CursorFactory(_Resource, cursor.CursorFactory[asyncpg.Record]):
        _connection: Any

    class CursorIterator(_Resource, cursor.CursorIterator[asyncpg.Record]):
        _connection: Any

    class Cursor(_Resource, cursor.Cursor[asyncpg.Record]):
        _connection: Any

        async def _init(self, timeout: float | None) -> Any: ...

    class PoolConnectionProxy:
        _con: Any
        _holder: Any

    class Pool(asyncpg.Pool[asyncpg.Record]):
        _queue: Any
        _closing: bool
        _generation: int
        _reset: Any

        async def _async__init__(self) -> Any: ...
        async def release(self, connection: Any, *, timeout: float | None = None) -> None: ...
        def _check_init(self) -> None: ...
        def _schedule_min_size_maintenance(self) -> None: ...
else:
    Connection = asyncpg.Connection
    PreparedStatement = prepared_stmt.PreparedStatement
    CursorFactory = cursor.CursorFactory
    CursorIterator = cursor.CursorIterator
    Cursor = cursor.Cursor
    Pool = pool.Pool
    PoolConnectionProxy = pool.PoolConnectionProxy
