"""COPY on a connection that times what it runs: in, out, of records and of a query."""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from metrics_service.client.queries.record import NamedQuery
from metrics_service.client.queries.statements import Statement
from metrics_service.client.tracked import internals
from metrics_service.client.tracked.counting import affected


class CopyingConnection(internals.Connection):
    """The part of a TrackedConnection that copies."""

    __slots__ = ()

    if TYPE_CHECKING:
        _driver: Statement | None

        @contextlib.contextmanager
        def driving(self, statement: Statement) -> Iterator[None]: ...
        def statement(self, query: str) -> Any: ...
        async def timed(
            self,
            statement: Any,
            run: Callable[[float | None], Awaitable[Any]],
            timeout: float | None,
            rows: Callable[[Any], int],
        ) -> Any: ...

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """Copy from a query. Its recorded text is without the arguments that asyncpg writes into
        the statement.
        """
        named = isinstance(query, NamedQuery)
        statement = self.statement(query if named else f"COPY ({query}) TO STDOUT")
        sql = query.sql if isinstance(query, NamedQuery) else query
        with self.driving(statement):
            return await super().copy_from_query(sql, *args, **options)

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]],
        columns: Iterable[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        where: str | None = None,
    ) -> str:
        names = None if columns is None else list(columns)
        table = ".".join(_quoted(name) for name in (schema_name, table_name) if name)
        listed = f"({', '.join(_quoted(name) for name in names)})" if names else ""
        condition = f" WHERE {where}" if where else ""
        statement = self.statement(f"COPY {table}{listed} FROM STDIN{condition}")
        run = super().copy_records_to_table

        # A failure of its introspection is also its own failure, so it is not counted twice.
        inside = Statement(statement.definition, True, False)

        async def copy(left: float | None) -> str:
            with self.driving(inside):
                return await run(
                    table_name,
                    records=records,
                    columns=names,
                    schema_name=schema_name,
                    timeout=left,
                    where=where,
                )

        return str(await self.timed(statement, copy, timeout, affected))

    async def _copy_in(self, copy_stmt: str, source: Any, timeout: Any) -> str:
        return await self._copy(super()._copy_in, copy_stmt, source, timeout)

    async def _copy_out(self, copy_stmt: str, output: Any, timeout: Any) -> str:
        return await self._copy(super()._copy_out, copy_stmt, output, timeout)

    async def _copy(self, run: Any, copy_stmt: str, stream: Any, timeout: Any) -> str:
        statement = self.statement(copy_stmt)
        # The work of copy_from_query ends here and the copying begins.
        before, self._driver = self._driver, None
        try:
            status = await self.timed(
                statement, lambda left: run(copy_stmt, stream, left), timeout, affected
            )
        finally:
            self._driver = before
        return str(status)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
