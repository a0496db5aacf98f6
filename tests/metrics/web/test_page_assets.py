"""The page's files: small, whole, with nothing from elsewhere, and with the lines of the rules."""

from __future__ import annotations

import gzip
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ROOT / "metrics_service" / "web" / "assets"
RULES = ROOT / "metrics_service" / "alerts" / "rules" / "rules.toml"
FILES = sorted(ASSETS.iterdir())
MODULES = [path for path in FILES if path.suffix == ".js"]
MAX_SENT_BYTES = 60_000
MAX_LINES = 300

NAMES = re.compile(r"import \{([^}]+)\} from '\./([a-z]+\.js)';")
IMPORT = re.compile(r"from '\./([a-z]+\.js)'")
ADDRESS = re.compile(r"/assets/([a-z.]+[a-z])")
ELSEWHERE = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")
# What would let text become markup or code, or what the policy refuses.
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|style="
)


def test_the_page_is_at_most_sixty_kilobytes_on_its_way() -> None:
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) <= MAX_SENT_BYTES


def test_every_file_that_is_named_exists_and_every_one_is_named() -> None:
    named = {"index.html"}
    for path in FILES:
        text = path.read_text()
        named |= {*IMPORT.findall(text), *ADDRESS.findall(text)}
    assert named == {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup(path: Path) -> None:
    text = path.read_text()
    assert not ELSEWHERE.findall(text)
    assert not UNSAFE.findall(text)
    assert text.isascii() or path.suffix == ".js"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_import_of_a_module_is_used_and_exported(path: Path) -> None:
    text = path.read_text()
    for names, module in NAMES.findall(text):
        exported = (ASSETS / module).read_text()
        for name in re.findall(r"\w+", names):
            assert len(re.findall(rf"\b{name}\b", NAMES.sub("", text))) > 0, name
            assert re.search(rf"export (async )?(const|function|class) {name}\b", exported), name
    assert len(text.splitlines()) <= MAX_LINES


def test_the_lines_of_the_page_are_those_of_the_rules() -> None:
    rules = {rule["name"]: rule for rule in tomllib.loads(RULES.read_text())["rule"]}
    rules["error_rate"] = rules["error_ratio"]
    rules["errors_in_5_minutes"] = rules["high_error_rate"]
    found = re.findall(
        r"(\w+): \{ bound: ([0-9.]+)(?:, good: \[([0-9.]+), ([0-9.]+)\])? \}",
        (ASSETS / "now.js").read_text(),
    )
    lines = {name: (float(bound), low, high) for name, bound, low, high in found}
    assert len(lines) == len(found) == 9
    for name, (bound, low, high) in lines.items():
        if name not in rules:
            # Of the first 72 hours.
            assert name in {"query_p95", "query_p99", "slow_an_hour"}
            continue
        rule = rules[name]
        assert bound == rule.get("above", rule.get("below"))
        assert [float(each) for each in (low, high) if each] == rule.get("good", [])
