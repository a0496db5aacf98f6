"""The file of identities: what it may say, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicekit.caller import Identity
from servicekit.identity.identities import MAX_FILE_BYTES, MAX_IDENTITIES, read
from servicekit.settings import SettingsError
from tests.servicekit.identity.certificates import hashed

TWO = f"""
["spiffe://shop.example/checkout"]
roles = ["service", "payment"]
max_concurrent = 50
max_per_second = 0.5

[reviews]
roles = ["producer"]
services = ["reviews"]
lanes = ["telemetry"]
tokens_sha256 = ["{hashed("old")}", "{hashed("new")}"]
"""


def wrong(*lines: str) -> str:
    return "[desk]\n" + "\n".join(lines)


MISTAKES = [
    ("", "must name 1 to 10000 identities"),
    ("[desk", "is not a TOML file: "),
    ("\udcff", "is not a TOML file: "),
    ("desk = 1", ": desk: input should be a valid dictionary"),
    (wrong(), ": desk.roles: field required"),
    (wrong("roles = []"), ": desk.roles: list should have at least 1 item"),
    (wrong('roles = "ops"'), ": desk.roles: input should be a valid list"),
    (wrong('roles = ["root"]'), ": desk.roles.0: input should be 'service'"),
    (wrong('roles = ["ops"]', "admin = true"), ": desk.admin: extra inputs are not permitted"),
    (wrong('roles = ["ops"]', "max_concurrent = 0"), ": desk.max_concurrent: input should be"),
    (wrong('roles = ["ops"]', "max_per_second = nan"), ": desk.max_per_second: input should be"),
    (wrong('roles = ["ops"]', "max_per_second = -1"), ": desk.max_per_second: input should be"),
    (wrong('roles = ["ops"]', 'tokens_sha256 = ["x"]'), ": desk.tokens_sha256.0: string should"),
    (wrong('roles = ["producer"]'), ": 'desk' needs services and lanes with the role producer"),
    (wrong('roles = ["ops"]', 'services = ["a"]', 'lanes = ["facts"]'), "and only with it"),
    (wrong('roles = ["producer"]', 'services = ["a"]', 'lanes = ["x"]'), ": desk.lanes.0: input"),
    ('["a\\nb"]\nroles = ["ops"]', " is not a name of 1 to 256 bytes"),
    ('[""]\nroles = ["ops"]', " is not a name of 1 to 256 bytes"),
    (f'["{"x" * 257}"]\nroles = ["ops"]', " is not a name of 1 to 256 bytes"),
    ("[[[" * 40_000, "is not a TOML file: "),
    ("x" * (MAX_FILE_BYTES + 1), "has more than 4194304 bytes"),
    (
        "".join(f'[a{number}]\nroles=["ops"]\n' for number in range(MAX_IDENTITIES + 1)),
        "must name 1 to 10000 identities",
    ),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "callers.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_the_identities_are_found_by_name_and_by_each_token(tmp_path: Path) -> None:
    found = read(written(tmp_path, TWO), setting="X_IDENTITIES", tokens=False)
    checkout = found.by_name["spiffe://shop.example/checkout"]
    assert checkout == Identity(
        "spiffe://shop.example/checkout",
        frozenset({"service", "payment"}),
        max_concurrent=50,
        max_per_second=0.5,
    )
    reviews = found.by_name["reviews"]
    assert reviews.services == frozenset({"reviews"})
    assert reviews.lanes == frozenset({"telemetry"})
    assert found.of_token("old") is found.of_token("new") is reviews
    assert found.of_token("") is found.of_token(hashed("old")) is None


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        read(path, setting="X_IDENTITIES", tokens=False)
    line = str(raised.value)
    assert line.startswith(f"X_IDENTITIES={str(path)!r}")
    assert said in line
    assert "\n" not in line
    assert len(line) < 500


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^X='.*none' cannot be read: No such file"):
        read(tmp_path / "none", setting="X", tokens=False)
    with pytest.raises(SettingsError, match=r"^X='.*' cannot be read: Is a directory$"):
        read(tmp_path, setting="X", tokens=False)


def test_where_callers_have_tokens_each_needs_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'spiffe://.*' has no tokens_sha256$"):
        read(written(tmp_path, TWO), setting="X", tokens=True)
    same = "".join(
        f'[{name}]\nroles = ["ops"]\ntokens_sha256 = ["{hashed("x")}"]\n' for name in ("a", "b")
    )
    with pytest.raises(SettingsError, match=r"'b' has a token of another identity$"):
        read(written(tmp_path, same), setting="X", tokens=True)
