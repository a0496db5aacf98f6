"""The wheel has all that an installed service or client needs, and the client needs no extra."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "servicekit", "booking_service", "metrics_service")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
DATA = ("*.py", "*.sql", "*.html", "*.css", "*.js", "*.svg", "*.proto", "py.typed")
# The faces of the client, as README names them, and what comes with a server only.
CLIENT = ("metrics_service.client", "metrics_service.client.host", "protos.tracking.v1.event_pb2")
SERVER_ONLY = (
    "grpc_health",
    "httpx",
    "pydantic",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
    "uvloop",
)

pytestmark = [pytest.mark.full, pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders beside its source."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    made = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"),
        *("--wheel-dir", str(made), str(source)),
        cwd=source,
    )
    (path,) = made.iterdir()
    return path


def run(*command: str, cwd: Path) -> str:
    """The output of a command in `cwd` that knows nothing of this environment."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_it(wheel: Path) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for pattern in DATA
        for path in (ROOT / package).rglob(pattern)
    }
    assert len({name for name in expected if name.endswith(".sql")}) > 10
    assert expected - set(ZipFile(wheel).namelist()) == set()


def test_the_client_is_imported_without_a_server_and_without_this_folder(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    run(
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--constraint", str(pinned(tmp_path)), str(wheel)),
        cwd=tmp_path,
    )
    check = f"""
import importlib, importlib.util
for name in {CLIENT}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(environment)!r}), module.__file__
print([name for name in {SERVER_ONLY} if importlib.util.find_spec(name)])
"""
    assert run(python, "-I", "-c", check, cwd=tmp_path) == "[]\n"


def pinned(folder: Path) -> Path:
    """The versions of the lock file, without the hashes, which would be asked of our wheel too."""
    lines = (ROOT / "requirements" / "running.txt").read_text().splitlines()
    path = folder / "constraints.txt"
    path.write_text("\n".join(line.rstrip(" \\") for line in lines if "==" in line))
    return path
