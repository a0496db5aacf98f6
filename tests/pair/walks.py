"""Pages that list the functions on a way through the code, and traces to compare them with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "**COMMIT**"
# A step at the margin; its calls of functions in other files are indented below it.
STEP = re.compile(rf"^(?P<indent> *)(?:- `(?P<name>\S+::\S+)`|(?P<commit>{re.escape(COMMIT)}))")

Tracer = Callable[[FrameType, str, object], None]


class Walk(NamedTuple):
    """Steps as "file::function", and the functions of other files that each step calls.

    Both in the order in which each is first reached.
    """

    steps: list[str]
    calls: dict[str, list[str]]

    @property
    def files(self) -> set[str]:
        """The files at the margin."""
        return {step.partition("::")[0] for step in self.steps if step != COMMIT}

    def enter(self, name: str, caller: str | None, files: set[str]) -> None:
        """Add a function that was entered: a step if its file is one of `files`, else a call."""
        if name.partition("::")[0] in files:
            if name not in self.steps:
                self.steps.append(name)
        elif caller in self.steps:
            calls = self.calls.setdefault(caller, [])
            if name not in calls:
                calls.append(name)


def documented(text: str) -> Walk:
    """Read the steps of a page, or of one section of it."""
    walk = Walk([], {})
    for line in text.splitlines():
        found = STEP.match(line)
        if found is None:
            continue
        if found["indent"]:
            walk.calls.setdefault(walk.steps[-1], []).append(found["name"])
        else:
            walk.steps.append(found["commit"] or found["name"])
    return walk


def name_of(frame: FrameType, root: Path) -> str | None:
    """Return "file::function" of a frame below `root`; a comprehension belongs to its function."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(root):
        return None
    function = frame.f_code.co_qualname.partition(".<locals>")[0]
    return f"{path.relative_to(root)}::{function}"


@contextmanager
def traced(tracer: Tracer) -> Iterator[None]:
    sys.setprofile(tracer)
    try:
        yield
    finally:
        sys.setprofile(None)
