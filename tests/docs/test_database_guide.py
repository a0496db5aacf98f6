"""docs/database-optimization.md names what exists, and describes each index as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from booking_service.cli import indexes
from booking_service.config import BookingSettings
from booking_service.storage.sql import QUERIES
from metrics_service.config import MetricsSettings
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.metrics.v1 import health_pb2, metrics_pb2
from servicekit.settings import variables

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/database-optimization.md").read_text()
INDEX_ROW = re.compile(r"^\| `(idx_\w+)` \| `(.+?)` \| `(\S+)` \| `(\w+)\.(\w+)` \|$", re.MULTILINE)
CREATED = re.compile(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)\s+ON ([^;]+);")
SERVICES = {
    service.name: service
    for module in (
        *(booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2),
        *(health_pb2, metrics_pb2),
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}
KINDS = {
    "index": r"\b(idx_\w+)",
    "make": r"`make ([a-z-]+)",
    "rpc": r"\b([A-Z]\w+Service[./][A-Z]\w+)",
    "setting": r"`((?:BOOKING|METRICS)_[A-Z_]+)`",
    "file": r"`((?:tests|migrations|booking_service|metrics_service|docs)/[^`:]*)`",
    "statement": r"`((?:bookings|packages|payments|reviews|profiles)\.[a-z_]+)`",
}


def named() -> list[tuple[str, str]]:
    """(kind, name) of everything that the guide names."""
    found = {(kind, name) for kind, each in KINDS.items() for name in re.findall(each, GUIDE)}
    return sorted(found)


def exists(kind: str, name: str) -> bool:
    match kind:
        case "index":
            return name in indexes.names()
        case "make":
            makefile = (ROOT / "Makefile").read_text()
            return re.search(rf"^{name}:", makefile, re.MULTILINE) is not None
        case "rpc":
            service, method = re.split("[./]", name)
            return service in SERVICES and method in SERVICES[service].methods_by_name
        case "setting":
            return any(
                name in variables(settings, field, info)
                for settings in (BookingSettings, MetricsSettings)
                for field, info in settings.model_fields.items()
            )
        case "file":
            return (ROOT / name).exists()
        case _:
            return name in QUERIES


@pytest.mark.parametrize(("kind", "name"), named())
def test_what_the_guide_names_exists(kind: str, name: str) -> None:
    assert exists(kind, name)


def test_each_of_the_fifteen_is_described_as_it_is_built() -> None:
    built = {}
    for path in indexes.FOLDER.glob("9*.sql"):
        for name, on in CREATED.findall(path.read_text()):
            built[name] = " ".join(on.split())
    described = {name: on for name, on, *_ in INDEX_ROW.findall(GUIDE)}
    assert described == built
    assert len(built) == 15


def test_each_of_the_fifteen_serves_the_statement_of_its_comment() -> None:
    comments = "".join(path.read_text() for path in indexes.FOLDER.glob("9*_index_comments.sql"))
    serves = dict(re.findall(r"COMMENT ON INDEX (\w+) IS\s+'([\w.]+):", comments))
    assert {name: statement for name, _, statement, *_ in INDEX_ROW.findall(GUIDE)} == serves


def test_the_readme_leads_to_the_guide() -> None:
    assert "docs/database-optimization.md" in (ROOT / "README.md").read_text()


def test_what_does_not_exist_is_noticed() -> None:
    assert {kind for kind, _ in named()} == set(KINDS)
    assert not any(exists(kind, "Nothing.nothing") for kind in KINDS)
