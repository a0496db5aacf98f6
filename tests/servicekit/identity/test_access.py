"""The table of who may call what."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicekit.caller import ROLES
from servicekit.identity.access import Access, read


def test_what_is_not_listed_nobody_may_call(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text('["shop.v1.Shop"]\nSell = ["service"]\nLook = ["anyone"]\nNone = []\n')
    access = read(str(tmp_path / "server.py"))
    assert access.allows({"service", "monitor"}, "shop.v1.Shop/Sell")
    assert not access.allows(ROLES - {"service"}, "shop.v1.Shop/Sell")
    assert not access.allows(ROLES, "shop.v1.Shop/None")
    assert not access.allows(ROLES, "shop.v1.Shop/Other")
    assert not access.allows([], "shop.v1.Shop/Sell")
    assert access.allows([], "shop.v1.Shop/Look")
    assert access.open("shop.v1.Shop/Look")
    assert access.open("grpc.health.v1.Health/Check")
    assert not access.open("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such role: boss"):
        Access({"shop.v1.Shop/Sell": ["service", "boss"]})
