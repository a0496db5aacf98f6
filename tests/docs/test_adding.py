"""docs/adding.md lists, for each kind of change, exactly the files in which its example occurs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.docs.snippets import ROOT, blocks_of

pytestmark = pytest.mark.processes

DOCUMENT: Final = "docs/adding.md"
CHANGES: Final = ["An RPC", "A field", "An error", "A metric", "An index"]
STEP: Final = re.compile(r"^\d+\. `([^`]+)`: \S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Change:
    """One section: how its example's files are found, and those that it lists, in order."""

    name: str
    command: str
    files: list[str]

    def __str__(self) -> str:
        return self.name


def changes() -> Iterator[Change]:
    """The sections that list files."""
    commands = iter(blocks_of(DOCUMENT))
    for section in (ROOT / DOCUMENT).read_text().split("\n## ")[1:]:
        (command,) = next(commands).commands
        yield Change(section.partition("\n")[0], command, STEP.findall(section))


def found(command: str) -> set[str]:
    """The files that a `git grep -l` names."""
    arguments = shlex.split(command)
    assert arguments[:2] == ["git", "grep"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_kind_of_change_has_its_list() -> None:
    assert [change.name for change in changes()] == CHANGES


@pytest.mark.parametrize("change", list(changes()), ids=str)
def test_the_list_is_of_the_files_of_the_example(change: Change) -> None:
    assert len(set(change.files)) == len(change.files)
    assert set(change.files) == found(change.command)


def test_a_file_that_is_not_listed_is_noticed() -> None:
    first, *_ = changes()
    assert found(first.command) - set(first.files[1:]) == {first.files[0]}
