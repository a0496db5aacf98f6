"""The committed code is what the .proto files give, and the contract stays compatible."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def protoc(root: Path, *arguments: str) -> None:
    protos = sorted(str(path.relative_to(root)) for path in root.glob("protos/*/v*/*.proto"))
    assert protos
    program = [sys.executable, "-m", "grpc_tools.protoc"]
    subprocess.run(
        [*program, "-I.", f"-I{sysconfig.get_path('purelib')}", *arguments, *protos],
        cwd=root,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        check=True,
    )


def buf(action: str, image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--config", str(ROOT / "protos/buf.yaml"), "--path", "protos"]
    return subprocess.run(
        [str(BIN / "buf"), action, str(image), *options, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=image.parent,
    )


def test_generated_code_is_current(tmp_path: Path) -> None:
    plain = [f"--{each}_out={tmp_path}" for each in ("python", "grpc_python")]
    protoc(ROOT, *plain, f"--mypy_out=quiet:{tmp_path}", f"--mypy_grpc_out=quiet:{tmp_path}")
    fresh = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*_pb2*")}
    committed = {path.relative_to(ROOT) for path in ROOT.glob("protos/**/*_pb2*.py*")}
    committed = {path for path in committed if "__pycache__" not in path.parts}
    assert set(fresh) == committed
    stale = [str(path) for path in fresh if fresh[path].read_text() != (ROOT / path).read_text()]
    assert stale == [], "run make proto"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("*.py", "*.pyi", "__pycache__")
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=ignore)
    return tmp_path


def image_of(sources: Path) -> Path:
    image = sources / "image.binpb"
    protoc(sources, "--include_imports", "--include_source_info", f"--descriptor_set_out={image}")
    return image


def test_the_contract_is_clean_and_compatible_with_its_baseline(sources: Path) -> None:
    image = image_of(sources)
    lint = buf("lint", image)
    breaking = buf("breaking", image, "--against", str(ROOT / "protos/baseline.binpb"))
    assert (lint.returncode, lint.stdout) == (0, "")
    assert (breaking.returncode, breaking.stdout) == (0, "")


def test_every_list_in_a_request_states_its_maximum(sources: Path) -> None:
    stated = re.compile(r"\b([Aa]t most|1 to) \d+")
    files = FileDescriptorSet.FromString(image_of(sources).read_bytes()).file
    comments = {
        (file.message_type[place.path[1]].name, place.path[3]): place.leading_comments
        for file in files
        if file.package == "booking.v1"
        for place in file.source_code_info.location
        if len(place.path) == 4 and place.path[0] == 4 and place.path[2] == 2
    }
    lists = [
        (message.name, number)
        for file in files
        if file.package == "booking.v1"
        for message in file.message_type
        if message.name.endswith("Request") or message.name == "CancellationPolicy"
        for number, field in enumerate(message.field)
        if field.label == field.LABEL_REPEATED or field.type_name.endswith("FieldMask")
    ]
    assert len(lists) >= 8
    assert [each for each in lists if not stated.search(comments.get(each, ""))] == []


def test_every_list_of_the_metrics_contracts_states_its_maximum(sources: Path) -> None:
    stated = re.compile(r"\b[Aa]t\s+most\s+(\d|the limit, and 900 kB)")
    files = FileDescriptorSet.FromString(image_of(sources).read_bytes()).file
    lists, columns = [], {"QueryTimings", "Sketch"}
    for file in files:
        if file.package not in ("metrics.v1", "tracking.v1") or "checkpoint" in file.name:
            continue
        comments = {
            tuple(place.path): place.leading_comments for place in file.source_code_info.location
        }
        for at, message in enumerate(file.message_type):
            inner = [(each, (4, at, 3, n)) for n, each in enumerate(message.nested_type)]
            for owner, path in [(message, (4, at)), *inner]:
                for number, field in enumerate(owner.field):
                    # The first of a table's columns speaks for all.
                    if field.label == field.LABEL_REPEATED and (
                        owner.name not in columns or not number
                    ):
                        lists.append((owner.name, field.name, comments.get((*path, 2, number), "")))
    assert len(lists) >= 15
    assert [each for each in lists if not stated.search(each[2])] == []


def test_a_removed_field_is_seen_as_breaking(sources: Path) -> None:
    path = sources / "protos/booking/v1/booking.proto"
    text = path.read_text()
    assert "  string end_reason = 19;\n" in text
    path.write_text(text.replace("  string end_reason = 19;\n", ""))
    against = str(ROOT / "protos/baseline.binpb")
    done = buf("breaking", image_of(sources), "--against", against)
    assert done.returncode != 0
    assert "end_reason" in done.stdout
