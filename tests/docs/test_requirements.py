"""docs/requirements.md names only what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from protos.metrics.v1 import alert_pb2, deployment_pb2, health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {
    service.name: service
    for module in (
        *(booking_pb2, catalog_pb2, payment_pb2),
        *(alert_pb2, deployment_pb2, health_pb2, metrics_pb2, tracking_pb2),
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}
# Rows of three columns; the header and its rule are no rows.
ROW = re.compile(r"^\| (?P<asked>.+?) \| (?P<detail>.*?) ?\| (?P<where>.+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    text = (ROOT / "docs/requirements.md").read_text()
    found = [(row["asked"], row["where"]) for row in ROW.finditer(text)]
    return [(asked, where) for asked, where in found if asked != "requested"]


def claims() -> list[tuple[str, str, str]]:
    """(what was requested, kind of reference, reference) of every row that claims to be there."""
    return [
        (asked, prefix.strip(), name)
        for asked, where in rows()
        for prefix, name in re.findall(r"(rpc |index )?`([^`]+)`", where)
    ]


def exists(kind: str, name: str) -> bool:
    if kind == "index":
        return any(name in path.read_text() for path in (ROOT / "migrations").glob("*/*.sql"))
    if kind == "rpc":
        service, _, method = name.partition(".")
        return service in SERVICES and method in SERVICES[service].methods_by_name
    if name.startswith("make "):
        makefile = (ROOT / "Makefile").read_text()
        return re.search(rf"^{re.escape(name[5:])}:", makefile, re.MULTILINE) is not None
    if name.startswith("GET "):
        return any(
            name[4:] in path.read_text() for path in (ROOT / "metrics_service/web").glob("*.py")
        )
    path, _, symbol = name.partition("::")
    if not (ROOT / path).exists():
        return False
    return not symbol or has_symbol(path, symbol)


def has_symbol(path: str, symbol: str) -> bool:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    value: object = importlib.import_module(module)
    for part in symbol.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


@pytest.mark.parametrize(("asked", "kind", "name"), claims())
def test_what_the_document_names_exists(asked: str, kind: str, name: str) -> None:
    assert exists(kind, name), f"{asked}: there is no {kind} {name}"


def test_every_row_says_where_or_not_yet() -> None:
    for asked, where in rows():
        assert "`" in where or where == "not yet", asked


def test_the_check_sees_what_is_missing() -> None:
    assert not exists("index", "idx_nothing")
    assert not exists("rpc", "BookingService.Nothing")
    assert not exists("", "make nothing")
    assert not exists("", "metrics_service/client/booking/operations.py::BookingQueries.nothing")
    assert len(rows()) > 60
