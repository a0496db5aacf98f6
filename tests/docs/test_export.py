"""What others make their clients from: the exported contract, and docs/integration.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests import requires
from tests.docs.integration_scripts import steps_of
from tests.docs.snippet_runner import here, serving, until, without_make
from tests.docs.snippets import ROOT, blocks_of

pytestmark = pytest.mark.processes

BIN = Path(sys.executable).parent
NODE = ROOT / "tests/node"
DOCUMENT = "docs/integration.md"
# Of the npm packages too, which are fetched where the cache has them not.
BOUND_S = 120.0
INTERNAL = "protos/metrics/v1/checkpoint.proto"


def done(*command: str, folder: Path, path: Path = BIN) -> str:
    """What a command prints that must succeed."""
    run = subprocess.run(
        command,
        cwd=folder,
        env={**without_make(os.environ), "PATH": f"{path}:{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The exported module, in a folder away from all else."""
    module = tmp_path / "export"
    made = ("-o", ".venv/development.stamp", f"PY={sys.executable}", f"BIN={BIN}")
    done("make", *made, f"EXPORT={module}", "protos-export", folder=ROOT)
    return module


def test_the_export_is_a_module_of_its_own(exported: Path) -> None:
    image = exported.parent / "image.binpb"
    done("buf", "build", "export", "-o", str(image), folder=exported.parent)
    files = FileDescriptorSet.FromString(image.read_bytes()).file
    ours = {file.name for file in files if file.package.endswith(".v1")}
    contract = {str(path.relative_to(ROOT)) for path in ROOT.glob("protos/*/v*/*.proto")}
    assert ours == contract - {INTERNAL}
    for name in ours:
        assert (exported / name).read_bytes() == (ROOT / name).read_bytes()
    others = {file.name for file in files} - ours
    assert all(name.startswith("google/") for name in others)
    # What buf does not bring itself lies in the module, with its licence.
    assert {name for name in others if not name.startswith("google/protobuf/")} == {
        str(path.relative_to(exported)) for path in exported.glob("google/**/*.proto")
    }
    assert "google/rpc/error_details.proto" in others
    for licence in ("LICENSE", "google/LICENSE"):
        assert "Apache License" in (exported / licence).read_text()


def test_the_lock_of_the_node_client_pins_contents_and_names_no_address() -> None:
    text = (NODE / "package-lock.json").read_text()
    assert not re.search(r"https?:|\"resolved\"", text)
    packages = json.loads(text)["packages"]
    assert all(packages[name]["integrity"].startswith("sha512-") for name in packages if name)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_node_client_of_the_guide_is_generated_compiled_and_served(
    exported: Path, booking_dsn: str, metrics_dsn: str, tmp_path: Path
) -> None:
    npm, node = requires.program("npm"), requires.program("node")
    client = tmp_path / "client"
    shutil.copytree(NODE, client)
    flow, booking = (block.text for block in blocks_of(DOCUMENT) if block.language == "typescript")
    (generation,) = (block.text for block in blocks_of(DOCUMENT) if block.language == "yaml")
    (client / "buf.gen.yaml").write_text(generation)
    done(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=client)
    programs = client / "node_modules/.bin"
    done("buf", "generate", str(exported), folder=client, path=programs)
    generated = {path.relative_to(client / "gen") for path in (client / "gen").rglob("*_pb.ts")}
    assert {str(path).replace("_pb.ts", ".proto") for path in generated} == {
        str(path.relative_to(exported)) for path in exported.rglob("*.proto")
    }
    (tmp_path / "logs").mkdir()
    with serving(booking_dsn, metrics_dsn, tmp_path / "logs") as pair:
        (client / "client.ts").write_text(here(booking, pair))
        (client / "flow.ts").write_text(here(flow, pair))
        done("tsc", folder=client, path=programs)
        booked = done(node, "client.js", folder=client).splitlines()
        reported = done(node, "flow.js", folder=client).splitlines()
        steps = Counter({"view": 1, "start": 1, "abandon": 1})
        until(lambda: steps_of(pair, "visitor-1") == steps)
    assert booked == ["HELD 80n", "true", "booking.farehold SOLD_OUT"]
    assert reported == ["false"]
