"""The structure that `make structure` measures keeps its bounds, and a broken bound is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import structure

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = """
[[tool.importlinter.contracts]]
type = "layers"
containers = ["booking_service"]
layers = ["server", "rpc | admin", "storage : delivery", "domain"]
"""


def test_the_code_keeps_every_bound() -> None:
    assert structure.broken_bounds(structure.measure(ROOT)) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small checkout that keeps every bound."""
    write(tmp_path, "pyproject.toml", CONTRACT)
    write(tmp_path, "booking_service/__init__.py", "")
    write(tmp_path, "booking_service/server.py", "from booking_service.rpc import booking")
    write(tmp_path, "booking_service/rpc/__init__.py", "")
    write(tmp_path, "booking_service/rpc/booking.py", "import booking_service.domain.money")
    write(tmp_path, "booking_service/admin.py", "from booking_service import storage")
    write(tmp_path, "booking_service/storage.py", "from . import domain, delivery")
    write(tmp_path, "booking_service/delivery.py", "import os")
    write(tmp_path, "booking_service/domain/__init__.py", "")
    write(tmp_path, "booking_service/domain/money.py", "from .cents import CENTS")
    write(tmp_path, "booking_service/domain/cents.py", "CENTS = 100")
    write(tmp_path, "tests/test_money.py", "def test_money() -> None: ...")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_figures_of_a_small_tree(tree: Path) -> None:
    measured = structure.measure(tree)
    booking, domain, rpc = measured.packages
    assert booking.rooms == {"server", "rpc", "admin", "storage", "delivery", "domain"}
    assert {str(arrow) for arrow in booking.arrows} == {
        "server -> rpc",
        "rpc -> domain",
        "admin -> storage",
        "storage -> domain",
        "storage -> delivery",
    }
    assert (booking.floors, booking.circles, booking.upward) == (3, (), frozenset())
    assert (domain.name, domain.floors) == ("booking_service.domain", 2)
    assert domain.rooms == {"money", "cents"}
    assert rpc.rooms == {"booking"}
    assert rpc.upward is None
    assert structure.broken_bounds(measured) == []
    assert next(line for line in structure.table(measured) if "booking" in line).split() == [
        *("booking_service", "6", "5", "3", "0", "0")
    ]


@pytest.mark.parametrize(
    ("name", "text", "broken"),
    [
        (
            "booking_service/domain/money.py",
            "import booking_service.storage",
            "booking_service has a circle: domain, storage",
        ),
        (
            "booking_service/domain/cents.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .money import Money",
            "booking_service.domain has a circle: cents, money",
        ),
        (
            "booking_service/delivery.py",
            "def lazily():\n    from booking_service.rpc.booking import serve",
            "booking_service has an arrow up: delivery -> rpc",
        ),
        (
            "booking_service/admin.py",
            "from booking_service.rpc import booking",
            "booking_service has an arrow up: admin -> rpc",
        ),
        (
            "booking_service/rpc/booking.py",
            "x = 1\n" * 301,
            "booking_service/rpc/booking.py has 301 lines, at most 300",
        ),
        (
            "tests/test_money.py",
            "x = 1\n" * 401,
            "tests/test_money.py has 401 lines, at most 400",
        ),
        (
            "tests/test_money.py",
            "class TestMoney:\n    async def test(self):\n" + "        x = 1\n" * 60,
            "tests/test_money.py:test has 61 lines, at most 60",
        ),
        (
            "booking_service/server.py",
            "def main():\n    def inner():\n        x = 1\n" + "    x = 1\n" * 58,
            "booking_service/server.py:main has 61 lines, at most 60",
        ),
    ],
)
def test_a_broken_bound_is_found(tree: Path, name: str, text: str, broken: str) -> None:
    write(tree, name, text)
    assert broken in structure.broken_bounds(structure.measure(tree))


@pytest.mark.parametrize(
    ("name", "lines"), [("booking_service/domain/cents.py", 300), ("tests/test_money.py", 400)]
)
def test_a_file_at_its_bound_is_allowed(tree: Path, name: str, lines: int) -> None:
    write(tree, name, "x = 1\n" * lines)
    assert structure.broken_bounds(structure.measure(tree)) == []


def test_too_many_rooms_are_found_in_a_service_only(tree: Path) -> None:
    for number in range(10):
        write(tree, f"booking_service/room_{number}.py", "")
        write(tree, f"booking_service/domain/room_{number}/module.py", "")
    assert structure.broken_bounds(structure.measure(tree)) == []
    write(tree, "booking_service/one_more.py", "")
    assert structure.broken_bounds(structure.measure(tree)) == [
        "booking_service has 17 rooms, at most 16"
    ]


def test_the_command_fails_for_a_broken_bound(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert structure.main(["--root", str(tree)]) == 0
    write(tree, "booking_service/domain/money.py", "import booking_service.storage")
    assert structure.main(["--root", str(tree)]) == 1
    assert "has a circle: domain, storage" in capsys.readouterr().out
