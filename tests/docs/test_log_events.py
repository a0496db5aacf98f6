"""docs/log-events.md lists every event that the code logs, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"[a-z]+(_[a-z0-9]+)+")
ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
LEVELS = {
    **{level: level for level in ("debug", "info", "warning", "error", "critical")},
    "exception": "error",
}
# By whom an event is logged; the first folder that holds the file decides.
LOGGED_BY = {
    "metrics_service/client": "client",
    "booking_service": "booking_service",
    "metrics_service": "metrics_service",
    "servicekit": "both",
}


class Event(NamedTuple):
    """A call that logs; `name` is None where it is no constant."""

    name: str | None
    level: str


def events_of(source: str) -> Iterator[Event]:
    """Every call of a structlog logger, and of a name that stands for one of its methods."""
    nodes = list(ast.walk(ast.parse(source)))
    assigned = [
        (target.id, node.value)
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    loggers = {name for name, value in assigned if "get_logger(" in ast.unparse(value)}

    def levels(expression: ast.expr) -> set[str]:
        return {
            LEVELS[node.attr]
            for node in ast.walk(expression)
            if isinstance(node, ast.Attribute)
            and node.attr in LEVELS
            and _root(node.value) in loggers
        }

    writers = {
        name: found
        for name, value in assigned
        if not isinstance(value, ast.Call) and (found := levels(value))
    }
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            found = writers.get(node.func.id, set())
        else:
            found = levels(node.func) if isinstance(node.func, ast.Attribute) else set()
        first = node.args[0] if node.args else None
        name = first.value if isinstance(first, ast.Constant) else None
        yield from (Event(name if isinstance(name, str) else None, level) for level in found)


def _root(expression: ast.expr) -> str | None:
    """The name that an expression such as `log.bind(x=1)` begins with."""
    while isinstance(expression, ast.Attribute | ast.Call):
        expression = expression.value if isinstance(expression, ast.Attribute) else expression.func
    return expression.id if isinstance(expression, ast.Name) else None


def files() -> Iterator[tuple[str, Path]]:
    """Every file of the source, and who logs what it logs."""
    for package in ("booking_service", "metrics_service", "servicekit"):
        for path in sorted((ROOT / package).rglob("*.py")):
            inside = str(path.relative_to(ROOT))
            yield next(by for folder, by in LOGGED_BY.items() if inside.startswith(folder)), path


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """The levels of each event, and who logs it."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for by, path in files():
        for event in events_of(path.read_text()):
            assert event.name is not None, f"{path} logs an event without a constant name"
            levels, services = found.setdefault(event.name, (set(), set()))
            levels.add(event.level)
            services.add(by)
    return found


def documented() -> dict[str, tuple[set[str], set[str]]]:
    text = (ROOT / "docs/log-events.md").read_text()
    return {
        name: (set(levels.split(", ")), set(services.split(", ")))
        for name, levels, services, _ in ROW.findall(text)
    }


def test_every_event_is_a_noun_and_a_verb_in_snake_case() -> None:
    assert [name for name in logged() if not NAME.fullmatch(name)] == []


def test_the_table_lists_every_event_with_its_level_and_service() -> None:
    assert len(logged()) > 50
    assert documented() == logged()


def test_the_table_is_sorted_and_has_no_event_twice() -> None:
    names = [row[0] for row in ROW.findall((ROOT / "docs/log-events.md").read_text())]
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ('log.info("queue_filled", size=1)', [Event("queue_filled", "info")]),
        ('self.x = log.exception("queue_failed")', [Event("queue_failed", "error")]),
        ("log.warning(text)", [Event(None, "warning")]),
        ('log.bind(x=1).warning("queue_filled")', [Event("queue_filled", "warning")]),
        (
            'write = log.debug if quiet else log.info\nwrite("rpc_ended")',
            [Event("rpc_ended", "debug"), Event("rpc_ended", "info")],
        ),
        ('other.info("queue_filled")', []),
    ],
)
def test_events_are_found_in_the_source(line: str, events: list[Event]) -> None:
    found = events_of(f"log = structlog.get_logger(__name__)\n{line}")
    assert sorted(found, key=str) == sorted(events, key=str)
