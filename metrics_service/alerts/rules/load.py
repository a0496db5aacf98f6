"""Reads a rule file: all of it, or nothing with the line and the reason of each error."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from metrics_service.alerts.model import Rule
from metrics_service.alerts.rules.fields import FieldError, read_rule
from metrics_service.alerts.rules.lines import Lines
from metrics_service.alerts.rules.lint import contradictions

MAX_BYTES: Final = 64 * 1024
MAX_RULES: Final = 100
MAX_FINDINGS: Final = 100

SHIPPED: Final = "rules.toml"

MAX_KEY_PARTS: Final = 50

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_AT_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file: an error refuses it. Lines count from 1; 0: of no line."""

    level: Literal["error", "warning"]
    line: int
    rule: str
    message: str


class Checked(NamedTuple):
    """The rules of a file, none if it has an error, and what was found, in the order of lines."""

    rules: Sequence[Rule]
    findings: Sequence[Finding]

    @property
    def accepted(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)


class RuleFileError(ValueError):
    """A rule file that is refused: "file:line: reason"."""

    def __init__(self, name: str, finding: Finding) -> None:
        of = f"rule {finding.rule}: " if finding.rule else ""
        super().__init__(f"{name}:{finding.line}: {of}{finding.message}")


def load(path: Path | None) -> Sequence[Rule]:
    """Return the rules of a file, or those that are shipped. Raises RuleFileError for its first
    error, and OSError where it cannot be read.
    """
    name = SHIPPED if path is None else str(path)
    data = shipped() if path is None else path.read_bytes()[: MAX_BYTES + 1]
    checked = check(data)
    for finding in checked.findings:
        if finding.level == "error":
            raise RuleFileError(name, finding)
    return checked.rules


def shipped() -> bytes:
    """Return the rule file of this package."""
    return files(__package__).joinpath(SHIPPED).read_bytes()


def check(data: bytes) -> Checked:
    """Read a rule file and lint it."""
    if len(data) > MAX_BYTES:
        return _refused(0, f"a rule file has at most {MAX_BYTES} bytes")
    try:
        text = data.decode()
        if line := _line_of_long_key(text):
            return _refused(line, f"a key has at most {MAX_KEY_PARTS} parts")
        content = tomllib.loads(text)
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        return _refused(line, "a rule file is text in UTF-8")
    except tomllib.TOMLDecodeError as problem:
        found = _AT_LINE.search(str(problem))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        return _refused(line, f"not TOML: {_AT_LINE.sub('', str(problem))}")
    except ValueError as problem:
        return _refused(0, f"not TOML: {problem}")
    except RecursionError:
        return _refused(0, "it is nested too deeply")
    return _read(content, Lines(text))


def _line_of_long_key(text: str) -> int:
    """Return the number of the first line that may have a key of too many parts, or 0. To read a
    key takes time as the square of its parts.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= MAX_KEY_PARTS:
            code = _QUOTED.sub("", line).partition("#")[0]
            if code.count(".") >= MAX_KEY_PARTS:
                return number
    return 0


def _refused(line: int, message: str) -> Checked:
    return Checked((), (Finding("error", line, "", message),))


def _read(content: Mapping[str, Any], lines: Lines) -> Checked:
    findings = [
        Finding("error", lines.of_top(key), "", f"unknown key {key!r}; a file has [[rule]] tables")
        for key in content
        if key != "rule"
    ]
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        return _refused(lines.of_top("rule"), "rules are written as [[rule]] tables")
    if not 1 <= len(tables) <= MAX_RULES:
        return _refused(0, f"a file has 1 to {MAX_RULES} rules, not {len(tables)}")
    rules = []
    for number, table in enumerate(tables):
        name = table.get("name", "")
        try:
            rules.append(read_rule(table, lines.of(number)))
        except FieldError as problem:
            line = lines.of(number, problem.key)
            findings.append(Finding("error", line, str(name)[:64], str(problem)))
    if not findings:
        findings += _across(rules, lines)
    if not findings:
        findings += [Finding("warning", *each) for each in contradictions(rules)]
    findings.sort(key=lambda finding: finding.line)
    accepted = all(finding.level != "error" for finding in findings)
    return Checked(tuple(rules) if accepted else (), tuple(findings[:MAX_FINDINGS]))


def _across(rules: Sequence[Rule], lines: Lines) -> list[Finding]:
    """Find errors that no rule has alone."""
    findings = []
    seen: dict[tuple[str, str], int] = {}
    names = {rule.name for rule in rules}
    for number, rule in enumerate(rules):
        first = seen.setdefault(rule.key, rule.line_number)
        if first != rule.line_number:
            message = f"the {rule.severity} rule of this name is in line {first}"
            findings.append(Finding("error", lines.of(number, "name"), rule.name, message))
        for unknown in sorted(set(rule.inhibited_by) - names):
            message = f"inhibited_by names no rule of the file: {unknown!r}"
            findings.append(Finding("error", lines.of(number, "inhibited_by"), rule.name, message))
    return findings
