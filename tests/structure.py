"""Measures the structure of the code from its imports and its lines, and holds it to its bounds.

A room is a direct child of a package: a module or a subpackage. An arrow goes from a room to one
that it imports, imports for type checking included. Floors are the rooms on the longest chain of
arrows; the rooms of a circle share a floor.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

SERVICES: Final = ("booking_service", "metrics_service")
SOURCE: Final = (*SERVICES, "servicekit")
TESTS: Final = ("tests",)
SHOWN: Final = (*SOURCE, "metrics_service.client", "metrics_service.state")

MAX_ROOMS: Final = 16
MAX_SOURCE_LINES: Final = 300
MAX_TEST_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60


class Arrow(NamedTuple):
    """An import between two rooms of one package."""

    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported}"


class Sized(NamedTuple):
    """A file or a function, and the number of its lines."""

    lines: int
    name: str


@dataclass(frozen=True, slots=True)
class Package:
    """The rooms of one package and the arrows between them."""

    name: str
    rooms: frozenset[str]
    arrows: frozenset[Arrow]
    circles: tuple[tuple[str, ...], ...]
    floors: int
    # Arrows against the layers of pyproject.toml; None where no contract gives the package layers.
    upward: frozenset[Arrow] | None


@dataclass(frozen=True, slots=True)
class Lines:
    """The files and functions below some folders, and how long one may be."""

    name: str
    files: tuple[Sized, ...]
    functions: tuple[Sized, ...]
    max_file_lines: int


@dataclass(frozen=True, slots=True)
class Structure:
    """All that is measured of one checkout."""

    packages: tuple[Package, ...]
    lines: tuple[Lines, ...]


def measure(root: Path) -> Structure:
    """Read the packages and the tests of the checkout in `root`."""
    layers = _layers(root)
    names = [
        ".".join(folder.relative_to(root).parts)
        for service in SOURCE
        for folder in [root / service, *sorted((root / service).rglob("*/"))]
        if any(folder.glob("*.py"))
    ]
    return Structure(
        packages=tuple(_package(root, name, layers.get(name)) for name in names),
        lines=(
            _lines(root, "source", SOURCE, MAX_SOURCE_LINES),
            _lines(root, "tests", TESTS, MAX_TEST_LINES),
        ),
    )


def broken_bounds(structure: Structure) -> list[str]:
    """One line for each bound that does not hold."""
    broken = []
    for package in structure.packages:
        if package.name in SERVICES and len(package.rooms) > MAX_ROOMS:
            broken.append(f"{package.name} has {len(package.rooms)} rooms, at most {MAX_ROOMS}")
        broken += [f"{package.name} has a circle: {', '.join(rooms)}" for rooms in package.circles]
        broken += [
            f"{package.name} has an arrow up: {arrow}" for arrow in sorted(package.upward or ())
        ]
    for lines in structure.lines:
        limits = ((lines.files, lines.max_file_lines), (lines.functions, MAX_FUNCTION_LINES))
        for found, limit in limits:
            broken += [
                f"{each.name} has {each.lines} lines, at most {limit}"
                for each in sorted(found, reverse=True)
                if each.lines > limit
            ]
    return broken


def table(structure: Structure) -> Iterator[str]:
    """The figures of the main packages, and of all files, as lines of text."""
    columns = "{:<24}{:>7}{:>8}{:>8}{:>9}{:>11}"
    yield columns.format("package", "rooms", "arrows", "floors", "circles", "arrows up")
    for package in structure.packages:
        if package.name not in SHOWN:
            continue
        yield columns.format(
            package.name,
            len(package.rooms),
            len(package.arrows),
            package.floors,
            len(package.circles),
            "-" if package.upward is None else len(package.upward),
        )
    yield ""
    for lines in structure.lines:
        for kind, found in (("largest file", lines.files), ("longest function", lines.functions)):
            longest = max(found, default=Sized(0, "none"))
            yield f"{lines.name + ', ' + kind:<24}{longest.lines:>7}  {longest.name}"


def _package(root: Path, name: str, layers: Sequence[str] | None) -> Package:
    folder = root.joinpath(*name.split("."))
    rooms = frozenset(
        path.stem
        for path in folder.iterdir()
        if (path.is_dir() and any(path.rglob("*.py")))
        or (path.suffix == ".py" and path.stem != "__init__")
    )
    arrows = set()
    for path in folder.rglob("*.py"):
        importer = Path(path.relative_to(folder).parts[0]).stem
        for module in _imported(root, path):
            inside = module.removeprefix(f"{name}.")
            imported = inside.split(".")[0]
            if inside != module and {importer, imported} <= rooms and importer != imported:
                arrows.add(Arrow(importer, imported))
    circles = _circles(rooms, arrows)
    upward = None if layers is None else _upward(arrows, layers)
    return Package(name, rooms, frozenset(arrows), circles, _floors(rooms, arrows), upward)


def _imported(root: Path, path: Path) -> Iterator[str]:
    """The full names that a file imports: modules, and what is taken from them."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{source}.{each.name}" for each in node.names)


def _layers(root: Path) -> Mapping[str, Sequence[str]]:
    """The layers of each package that a contract gives some, the highest first."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return {
        package: contract["layers"]
        for contract in contracts
        if contract["type"] == "layers"
        for package in contract.get("containers", [])
    }


def _upward(arrows: set[Arrow], layers: Sequence[str]) -> frozenset[Arrow]:
    """The arrows to a higher layer, or to a room that shares a layer but must not be imported."""
    floor_of = {
        room.strip(" ()"): floor
        for floor, layer in enumerate(layers)
        for room in re.split(r"[|:]", layer)
    }
    open_floors = {floor for floor, layer in enumerate(layers) if ":" in layer}

    def rises(arrow: Arrow) -> bool:
        begin, end = floor_of.get(arrow.importer), floor_of.get(arrow.imported)
        if begin is None or end is None:
            return False
        return end < begin or (end == begin and end not in open_floors)

    return frozenset(filter(rises, arrows))


def _reachable(rooms: frozenset[str], arrows: set[Arrow]) -> Mapping[str, frozenset[str]]:
    """For each room, the rooms that a chain of arrows leads to."""
    below = {room: {arrow.imported for arrow in arrows if arrow.importer == room} for room in rooms}
    grows = True
    while grows:
        wider = {
            room: found.union(*(below[each] for each in found)) for room, found in below.items()
        }
        grows = wider != below
        below = wider
    return {room: frozenset(found) for room, found in below.items()}


def _circles(rooms: frozenset[str], arrows: set[Arrow]) -> tuple[tuple[str, ...], ...]:
    """The largest sets of rooms each of which imports all the others, if by way of others."""
    reachable = _reachable(rooms, arrows)
    found = {
        tuple(sorted(each for each in reachable[room] if room in reachable[each])) for room in rooms
    }
    return tuple(sorted(circle for circle in found if circle))


def _floors(rooms: frozenset[str], arrows: set[Arrow]) -> int:
    """The rooms on the longest chain of arrows; those of a circle count once."""
    reachable = _reachable(rooms, arrows)

    @cache
    def height(room: str) -> int:
        lower = [each for each in reachable[room] if room not in reachable[each]]
        return 1 + max(map(height, lower), default=0)

    return max(map(height, rooms), default=0)


def _lines(root: Path, name: str, folders: Sequence[str], max_file_lines: int) -> Lines:
    files, functions = [], []
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        text, shown = path.read_text(), str(path.relative_to(root))
        files.append(Sized(len(text.splitlines()), shown))
        functions += [
            Sized((node.end_lineno or node.lineno) - node.lineno + 1, f"{shown}:{node.name}")
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return Lines(name, tuple(files), tuple(functions), max_file_lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout to measure")
    structure = measure(parser.parse_args(arguments).root)
    print(*table(structure), sep="\n")
    broken = broken_bounds(structure)
    if broken:
        print("", *broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
