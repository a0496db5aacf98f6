"""Reads SQL statements from files, so that each exists once and is known by its name.

A block begins with a line `-- name: model.operation`, or `-- name: model.operation internal` where
a service runs the statement for itself, and ends with a semicolon. A line `-- columns: row = a, b`,
with further lines indented, defines a list of columns for all files of the folder: `{row}` stands
for `a, b`, and `{t.row}` for `t.a, t.b`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar

_HEADER: Final = re.compile(r"^-- name: (?P<name>\S+)(?P<internal> internal)?$", re.MULTILINE)
_COLUMNS: Final = re.compile(
    r"^-- columns: (?P<name>[a-z_]+) = (?P<columns>.*(?:\n--  +.*)*)$", re.MULTILINE
)
_USE: Final = re.compile(r"\{(?:(?P<alias>[a-z_]+)\.)?(?P<name>[a-z_]+)\}")
_NAME: Final = re.compile(r"[a-z_]+\.[a-z_]+")

S = TypeVar("S")


class Statement(NamedTuple):
    """One statement without its semicolon."""

    sql: str
    internal: bool


def read_statements(directory: Path) -> Mapping[str, Statement]:
    """Return every statement of every *.sql file, by name, such as "packages.search".

    ValueError names the file and the block that is malformed, occurs twice, or uses a list of
    columns that is not defined.
    """
    columns = _read_columns(directory)
    found: dict[str, Statement] = {}
    for path in sorted(directory.glob("*.sql")):
        text = path.read_text("utf-8")
        headers = list(_HEADER.finditer(text))
        ends = [*(header.start() for header in headers[1:]), len(text)]
        for header, end in zip(headers, ends, strict=False):
            name = header["name"]
            block = text[header.end() : end]
            sql, semicolon, comment = block.partition(";")
            if not _NAME.fullmatch(name) or not sql.strip() or not semicolon or name in found:
                raise ValueError(f"{path.name}: {name} is malformed or occurs twice")
            if any(line and not line.startswith("--") for line in comment.splitlines()):
                raise ValueError(f"{path.name}: {name} is more than one statement")
            try:
                sql = _expand(sql.strip(), columns)
            except KeyError as error:
                raise ValueError(f"{path.name}: {name} uses unknown columns {error}") from None
            found[name] = Statement(sql, bool(header["internal"]))
    return MappingProxyType(found)


class StatementGroup(Generic[S]):
    """The statements of one model, each as an attribute: `StatementGroup(all, "bookings").get`."""

    def __init__(self, statements: Mapping[str, S], model: str) -> None:
        self._statements = statements
        self._model = model
        if not any(name.startswith(f"{model}.") for name in statements):
            raise ValueError(f"no statement of {model}")

    def __getattr__(self, operation: str) -> S:
        try:
            return self._statements[f"{self._model}.{operation}"]
        except KeyError:
            raise AttributeError(f"no statement {self._model}.{operation}") from None


def _read_columns(directory: Path) -> Mapping[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for path in sorted(directory.glob("*.sql")):
        for found in _COLUMNS.finditer(path.read_text("utf-8")):
            name = found["name"]
            names = re.findall(r"\w+", found["columns"])
            if name in columns or not names:
                raise ValueError(f"{path.name}: columns {name} are empty or occur twice")
            columns[name] = names
    return columns


def _expand(sql: str, columns: Mapping[str, list[str]]) -> str:
    """Replace each use of a list of columns. KeyError for one that is not defined."""

    def listed(use: re.Match[str]) -> str:
        prefix = f"{use['alias']}." if use["alias"] else ""
        return ", ".join(prefix + column for column in columns[use["name"]])

    return _USE.sub(listed, sql)
