"""The house rules hold, and the checks that guard them can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "servicekit", "booking_service", "metrics_service")
TOP_LEVEL = {
    # As the project's user fixed it.
    *("protos", "booking_service", "metrics_service", "migrations", "tests"),
    *("Makefile", "pyproject.toml"),
    # What both services need, the lock files, and what people read first.
    *("servicekit", "requirements", "docs", "deploy"),
    *("README.md", "ARCHITECTURE.md", "LICENSE"),
    # Read by tools that look here.
    *(".ci", ".gitignore", ".gitattributes", ".squawk.toml"),
}
# Made by tools or by running, and ignored by git.
LOCAL = {".git", ".venv", ".data", "build", "__pycache__"}
PERMISSIVE = re.compile(
    r"apache|mit\b|bsd|isc\b|psf|python software foundation|mpl|mozilla public license 2|"
    r"postgresql|unlicense|0bsd|zlib",
    re.IGNORECASE,
)


def test_only_agreed_things_lie_at_the_top() -> None:
    found = {
        each.name
        for each in ROOT.iterdir()
        if each.name not in LOCAL and not each.name.endswith(("_cache", ".egg-info", ".hypothesis"))
    }
    assert found <= TOP_LEVEL


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.processes
def test_imports_run_one_way(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("protos/__init__.py", "import servicekit.start", "The contract imports nothing"),
        ("servicekit/context.py", "import protos.booking", "servicekit knows nothing"),
        (
            "metrics_service/fanout.py",
            "import booking_service.storage.sql",
            "never imports booking",
        ),
        (
            "booking_service/server.py",
            "import metrics_service.state.fold",
            "booking_service imports client and client.host only",
        ),
        (
            "booking_service/server.py",
            "import metrics_service.client.tracked",
            "booking_service imports client and client.host only",
        ),
        (
            "metrics_service/server.py",
            "import metrics_service.client.health",
            "the client is imported as client or client.host only",
        ),
        (
            "metrics_service/client/telemetry/emitter.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    import metrics_service.client.inspector",
            "metrics_service.client: imports run",
        ),
        (
            "metrics_service/client/tracked/tracker.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    import metrics_service.client.tracked.connection",
            "metrics_service.client: no cycles",
        ),
        (
            "booking_service/storage/rows.py",
            "import booking_service.rpc",
            "booking_service: imports run",
        ),
        ("metrics_service/state/fold.py", "import metrics_service.rpc", "metrics_service: imports"),
        (
            "metrics_service/state/business.py",
            "import metrics_service.state.rpcs",
            "metrics_service.state: imports run",
        ),
        (
            "metrics_service/state/queries/fingerprints.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    import metrics_service.state.queries.recent",
            "metrics_service.state: no cycles",
        ),
        ("booking_service/domain/money.py", "import time", "domain and state are pure"),
        ("metrics_service/state/series/rings.py", "import random", "domain and state are pure"),
        ("metrics_service/measure/sketch.py", "import io", "domain and state are pure"),
        ("booking_service/group_commit/sweeper.py", "import asyncpg", "asyncpg is used where"),
        ("booking_service/group_commit/bus.py", "import grpc", "gRPC is used at the edge"),
    ],
)
def test_a_planted_violation_is_found(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / module
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        done = lint_imports(copy)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", done.stdout), done.stdout


@pytest.mark.processes
@pytest.mark.parametrize("package", ["booking_service", "metrics_service", "metrics_service/state"])
def test_a_module_that_no_layer_names_is_found(copy: Path, package: str) -> None:
    path = copy / package / "unnamed.py"
    path.touch()
    try:
        done = lint_imports(copy)
    finally:
        path.unlink()
    name = package.replace("/", ".")
    assert done.returncode == 1
    assert re.search(rf"{name}: imports run one way.* BROKEN", done.stdout), done.stdout


def clock_reads(source: str) -> list[int]:
    """The lines that ask a clock, such as datetime.now() and date.today()."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call, ast.Attribute)
        and call.attr in {"now", "today", "utcnow"}
        and ast.unparse(call.value).split(".")[-1] in {"date", "datetime"}
    ]


def test_domain_state_and_measure_never_read_a_clock() -> None:
    folders = ("booking_service/domain", "metrics_service/state", "metrics_service/measure")
    pure = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(pure) > 40
    assert {path.name: lines for path in pure if (lines := clock_reads(path.read_text()))} == {}
    assert clock_reads("def f():\n    return datetime.now(UTC)") == [2]


def licence_of(name: str) -> str:
    about = metadata.metadata(name)
    said = [*about.get_all("License-Expression", []), *about.get_all("License", [])]
    return " ".join([*said, *(x for x in about.get_all("Classifier", []) if "License ::" in x)])


def locked(file: str) -> set[str]:
    """The names that a lock file pins."""
    text = (ROOT / "requirements" / file).read_text()
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))


def test_every_installed_dependency_is_permissive_or_mpl() -> None:
    installed = {
        each.metadata["Name"].lower().replace("_", "-") for each in metadata.distributions()
    }
    checked = locked("development.txt") & installed
    assert len(checked) > 50
    licences = {name: licence_of(name) for name in checked}
    assert {name: text[:80] for name, text in licences.items() if not PERMISSIVE.search(text)} == {}
    assert not [name for name, text in licences.items() if re.search(r"\bA?L?GPL", text)]


def test_the_lock_files_name_no_registry_and_hash_everything() -> None:
    for file in ("running.txt", "development.txt"):
        text = (ROOT / "requirements" / file).read_text()
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
        for block in re.split(r"\n(?=\S)", text):
            if "==" in block:
                assert "--hash=sha256:" in block, block
    assert locked("running.txt") < locked("development.txt")
    assert "setuptools" in locked("running.txt")
