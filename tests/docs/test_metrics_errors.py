"""docs/errors.md lists the reasons that only metrics_service refuses with, as the code has them."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from metrics_service import rpc
from servicekit.errors import SHARED_SPECS, ErrorSpec

ROOT = Path(__file__).resolve().parents[2]


def row(spec: ErrorSpec) -> str:
    counts, retry = ("yes" if each else "no" for each in (spec.counts_as_error, spec.retryable))
    return (
        f"| {spec.reason} | {spec.code.name} | {spec.kind} | {counts} | {retry} | {spec.summary} |"
    )


def own() -> set[ErrorSpec]:
    """Every reason of the servicers that is not one of both services."""
    shared = {spec.reason for spec in SHARED_SPECS}
    return {
        value
        for found in pkgutil.iter_modules(rpc.__path__)
        for value in vars(importlib.import_module(f"metrics_service.rpc.{found.name}")).values()
        if isinstance(value, ErrorSpec) and value.reason not in shared
    }


def test_each_reason_has_its_row_and_there_is_no_other() -> None:
    text = (ROOT / "docs/errors.md").read_text("utf-8")
    section = text[text.index("## Errors of metrics_service") :].split("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert sorted(listed) == sorted(row(spec) for spec in own())
