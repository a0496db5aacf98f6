"""Every file, make target and name in backticks, in any document, exists.

A name exists when it is defined in the file that stands before it (`file::name`), or is a word of
the source. Texts that are neither a path nor a name, such as conditions, are not checked.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

from booking_service.config import BookingSettings
from booking_service.monitoring.metrics import METRICS as OF_BOOKING
from metrics_service.config import MetricsSettings
from metrics_service.web.scrape.declarations import METRICS
from servicekit.client_settings import ClientSettings
from servicekit.settings import variables
from tests.docs.snippets import DOCUMENTS, ROOT

SOURCE: Final = [
    "booking_service",
    "metrics_service",
    "servicekit",
    "protos",
    "migrations",
    "deploy",
    "tests",
]
KINDS: Final = (".py", ".sql", ".proto", ".html", ".css", ".js", ".yml")
THIS: Final = Path(__file__).resolve()
# Walks name files from the folder of the service that they lead through.
WALKS: Final = [ROOT / "booking_service", ROOT / "metrics_service"]
FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\((?!https?://)([^)#]+)\)")
QUOTED: Final = re.compile(r"`([^`\n]+)`")
MAKE: Final = re.compile(r"make((?: [a-z-]+(?![=\w]))+)")
PATH: Final = re.compile(r"[\w.*-]*/[\w.*/-]*|[\w-]+\.(?:py|sql|md|proto|toml)")
NAME: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.\w+)*(?:\([^()]*\))?")
# Folders that running makes, and functions of PostgreSQL.
OTHERS: Final = {".data/", ".venv", "build/export", "lastval()"}


def quoted(document: str) -> list[str]:
    """What stands in backticks outside fenced blocks."""
    return sorted(set(QUOTED.findall(FENCED.sub("", (ROOT / document).read_text()))))


@cache
def words() -> frozenset[str]:
    """Every word of the source, and every setting."""
    files = chain.from_iterable((ROOT / folder).rglob("*") for folder in SOURCE)
    texts = [path.read_text() for path in files if path.suffix in KINDS and path != THIS]
    texts += [(ROOT / name).read_text() for name in ("Makefile", "pyproject.toml")]
    settings = (
        name
        for each in (BookingSettings, MetricsSettings, ClientSettings)
        for field, info in each.model_fields.items()
        for name in variables(each, field, info)
    )
    metrics = (metric.name for metric in (*OF_BOOKING, *METRICS))
    return frozenset(chain(settings, metrics, re.findall(r"\w+", " ".join(texts))))


@cache
def defined(path: Path) -> frozenset[str]:
    """The classes, functions, constants and imports of a module, methods as "Class.method"."""
    found = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.ClassDef():
                    found.add(prefix + node.name)
                    visit(node.body, f"{prefix}{node.name}.")
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found.add(prefix + node.name)
                case ast.Assign():
                    found.update(prefix + ast.unparse(target) for target in node.targets)
                case ast.AnnAssign():
                    found.add(prefix + ast.unparse(node.target))
                case ast.ImportFrom():
                    found.update(prefix + alias.name for alias in node.names)

    visit(ast.parse(path.read_text()).body, "")
    return frozenset(found)


@cache
def targets() -> frozenset[str]:
    """The targets of the Makefile."""
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def exists(document: str, text: str) -> bool:
    """Whether what is in backticks exists, or is nothing that could."""
    if made := MAKE.match(text):
        return set(made[1].split()) <= targets()
    if text in OTHERS:
        return True
    file, colons, symbol = text.partition("::")
    bases = [ROOT, *WALKS] if document.startswith("docs/walk") else [ROOT]
    if colons and PATH.fullmatch(file):
        paths = [base / file for base in bases if (base / file).is_file()]
        return any(symbol in defined(path) for path in paths)
    if PATH.fullmatch(text):
        return any(any(base.glob(text.strip("/"))) for base in bases)
    if NAME.fullmatch(text):
        return set(re.findall(r"\w+", text.partition("(")[0])) <= words()
    return True


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_exists(document: str) -> None:
    assert [text for text in quoted(document) if not exists(document, text)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_links_to_exists(document: str) -> None:
    links = LINK.findall((ROOT / document).read_text())
    folder = (ROOT / document).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize(
    "text",
    [
        "booking_service/nothing.py",
        "nothing.py",
        "booking_service/domain/decide.py::decided_otherwise",
        "make nothing",
        "NothingOfTheKind.nothing",
    ],
)
def test_what_does_not_exist_is_noticed(text: str) -> None:
    assert not exists("README.md", text)


@pytest.mark.parametrize("service", ["booking_service", "metrics_service"])
def test_architecture_has_the_floors_and_folders_of_a_service(service: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [service]
    )
    assert f"- {service}: `{' > '.join(layers)}`" in text
    tree = text.partition(f"\n{service}/")[2].partition("\n```")[0]
    folders = {path.parent.name for path in (ROOT / service).glob("*/__init__.py")}
    assert folders <= set(re.findall(r"(\w+)/", tree))


def test_the_messages_under_troubleshooting_are_those_of_the_source() -> None:
    text = (ROOT / "README.md").read_text().partition("\n## Troubleshooting")[2]
    messages = re.findall(r"^\| `((?!make )[^`]+)` \|", text, re.MULTILINE)
    source = "".join(
        path.read_text() for name in SOURCE[:3] for path in (ROOT / name).rglob("*.py")
    )
    assert len(messages) == 4
    assert [message for message in messages if message not in source] == []
