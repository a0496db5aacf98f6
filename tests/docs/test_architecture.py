"""The house rules hold, and the checks that guard them can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import grimp
import pytest
from importlinter import Contract
from importlinter.application.use_cases import read_user_options
from importlinter.configuration import configure
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

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


class Plant(NamedTuple):
    """An import that must not be, and the contract that it breaks."""

    importer: str
    imported: str
    contract: str


PLANTS = (
    Plant("protos", "servicekit.start", "The contract imports nothing of ours"),
    Plant(
        "servicekit.context",
        "protos.booking",
        "servicekit knows nothing of bookings or metrics",
    ),
    Plant(
        "metrics_service.fanout",
        "booking_service.storage.sql",
        "metrics_service never imports booking_service",
    ),
    *(
        Plant(
            "booking_service.server",
            imported,
            "Of metrics_service, booking_service imports client and client.host only",
        )
        for imported in ("metrics_service.state.fold", "metrics_service.client.tracked")
    ),
    Plant(
        "metrics_service.server",
        "metrics_service.client.health",
        "From outside, the client is imported as client or client.host only",
    ),
    Plant(
        "booking_service.storage.rows",
        "booking_service.rpc",
        "booking_service: imports run one way",
    ),
    Plant(
        "metrics_service.state.fold",
        "metrics_service.rpc",
        "metrics_service: imports run one way",
    ),
    Plant(
        "metrics_service.client.telemetry.emitter",
        "metrics_service.client.inspector",
        "metrics_service.client: imports run one way",
    ),
    Plant(
        "metrics_service.client.tracked.tracker",
        "metrics_service.client.tracked.connection",
        "metrics_service.client: no cycles, in its packages neither",
    ),
    Plant(
        "metrics_service.state.business",
        "metrics_service.state.rpcs",
        "metrics_service.state: imports run one way",
    ),
    Plant(
        "metrics_service.state.queries.fingerprints",
        "metrics_service.state.queries.recent",
        "metrics_service.state: no cycles, in its packages neither",
    ),
    *(
        Plant(
            importer,
            imported,
            "domain and state are pure: no clock, no randomness, no input or output",
        )
        for importer, imported in (
            ("booking_service.domain.money", "time"),
            ("metrics_service.state.series.rings", "random"),
            ("metrics_service.measure.sketch", "io"),
        )
    ),
    Plant(
        "booking_service.group_commit.sweeper",
        "asyncpg",
        "asyncpg is used where the database is spoken to, and nowhere else",
    ),
    Plant(
        "booking_service.group_commit.bus",
        "grpc",
        "gRPC is used at the edge, and nowhere else",
    ),
    Plant(
        "servicekit.tracing.queue",
        "opentelemetry",
        "OpenTelemetry is imported where spans are sent, and nowhere else",
    ),
)
configure()
OPTIONS = read_user_options(str(ROOT / "pyproject.toml"))
CONTRACTS: dict[str, dict[str, Any]] = {each["name"]: each for each in OPTIONS.contracts_options}
TYPES: dict[str, type[Contract]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports of the code as it is; a test plants in a copy."""
    return grimp.build_graph(
        *OPTIONS.session_options["root_packages"], include_external_packages=True, cache_dir=None
    )


def broken(graph: grimp.ImportGraph, *names: str) -> list[str]:
    """The contracts that do not hold, of those named."""
    found = []
    for name in names:
        contract = TYPES[CONTRACTS[name]["type"]](name, OPTIONS.session_options, CONTRACTS[name])
        if not contract.check(deepcopy(graph), verbose=False).kept:
            found.append(name)
    return found


def test_imports_run_one_way(graph: grimp.ImportGraph) -> None:
    assert broken(graph, *CONTRACTS) == []


def test_every_contract_has_a_planted_violation() -> None:
    assert {plant.contract for plant in PLANTS} == CONTRACTS.keys()


@pytest.mark.parametrize("plant", PLANTS, ids="{0.importer} -> {0.imported}".format)
def test_a_planted_violation_is_found(graph: grimp.ImportGraph, plant: Plant) -> None:
    # Not one that breaks the contract only since it names nothing.
    assert plant.importer in graph.modules
    assert plant.imported in graph.modules | sys.stdlib_module_names
    planted = deepcopy(graph)
    planted.add_import(importer=plant.importer, imported=plant.imported)
    assert broken(planted, plant.contract) == [plant.contract]


@pytest.mark.parametrize(
    "package",
    [name for each in CONTRACTS.values() if "layers" in each for name in each["containers"]],
)
def test_a_module_that_no_layer_names_is_found(graph: grimp.ImportGraph, package: str) -> None:
    grown = deepcopy(graph)
    grown.add_module(f"{package}.unnamed")
    contract = f"{package}: imports run one way"
    assert broken(grown, contract) == [contract]


@pytest.mark.processes
def test_the_linter_reads_imports_for_type_checking_too(tmp_path: Path) -> None:
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "metrics_service/client/tracked/tracker.py").open("a") as file:
        file.write(
            "\nfrom typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import metrics_service.client.tracked.connection\n"
        )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"metrics_service.client: no cycles.* BROKEN", done.stdout), done.stdout
    assert f"{len(CONTRACTS) - 1} kept, 1 broken" in done.stdout


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
    said += [x for x in about.get_all("Classifier", []) if "License ::" in x]
    if not said:
        named = about.get_all("License-File", [])
        said = [file.read_text() for file in metadata.files(name) or [] if file.name in named]
    return " ".join(said)


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
