"""Shared by the benchmarks: a temporary server, tables, verdicts and files of figures.

`python -m tests.bench.report OLD NEW` compares two files of figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from servicekit import binaries
from servicekit.devstack import PostgresServer

ROOT: Final = Path(__file__).resolve().parents[2]


@contextmanager
def throwaway_server(
    *, durable: bool, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """Run a server whose data are deleted at the end."""
    base = Path(tempfile.mkdtemp(prefix="farehold-bench-"))
    # The account of the server must be able to enter the folder.
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=durable, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        binaries.remove_home(base / "data")
        base.rmdir()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A Markdown table whose first `texts` columns are text and the others figures."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if column < texts else f"{'-' * (w - 1)}:" for column, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def verdict(held: bool) -> str:
    """The mark of a claim."""
    return "held" if held else "NOT held"


def options(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark accepts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures with the commit that was measured, if a file is given."""
    if path is not None:
        path.write_text(json.dumps({"commit": commit(), **figures}, indent=2) + "\n")


def commit() -> str:
    """The commit of the work tree, with "+" if it has changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def progress(text: str) -> None:
    """Print progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def compare(old: Path, new: Path) -> str:
    """Every number that both files have, and the new one as a multiple of the old one."""
    before, after = (dict(_numbers(json.loads(path.read_text()), "")) for path in (old, new))
    rows = [
        (name, f"{value:.4g}", f"{after[name]:.4g}", f"{after[name] / value:.2f}" if value else "-")
        for name, value in before.items()
        if name in after
    ]
    return table(("figure", "old", "new", "new/old"), rows)


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{name}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


if __name__ == "__main__":
    print(compare(Path(sys.argv[1]), Path(sys.argv[2])))
