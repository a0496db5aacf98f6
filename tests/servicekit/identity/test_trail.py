"""What the audit trail of access says of a file, and that each change is written once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict
from structlog.testing import capture_logs

from servicekit.identity.access import Access
from servicekit.identity.gate import Gate, KnownCallers, Unidentified, gate
from servicekit.identity.trail import MAX_CHANGE_BYTES, MAX_PENDING, AccessChange, AccessTrail
from servicekit.settings import ServerSettings
from tests.servicekit.identity.certificates import Folder, hashed

CALLERS = f"""
[desk]
roles = ["service", "payment"]
max_concurrent = 7
tokens_sha256 = ["{hashed("desk-1")}"]

[hotel]
roles = ["producer"]
services = ["booking_service"]
lanes = ["facts", "telemetry"]
tokens_sha256 = ["{hashed("hotel-1")}"]
"""
DESK = f"roles=payment,service max_concurrent=7 tokens={hashed('desk-1')[:16]}"


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 10.0
        return self.now_s


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tls")
    made.write("callers.toml", CALLERS)
    return made


@pytest.fixture
def gate_(folder: Folder) -> Gate:
    """Each look at it is a second after the last."""
    path = folder.path / "callers.toml"
    callers = KnownCallers(path, setting="X", tokens=True, now_s=Clock())
    return Gate(Unidentified(), Access({}), callers=callers)


def test_a_start_names_every_identity_and_what_it_may(folder: Folder, gate_: Gate) -> None:
    (started,) = gate_.take_changes()
    assert gate_.take_changes() == []
    assert (started.change, started.identities, started.left_out) == ("STARTED", 2, 0)
    assert started.file_sha256 == hashed((folder.path / "callers.toml").read_text())
    assert started.added["desk"] == DESK
    assert started.added["hotel"].startswith(
        "roles=producer lanes=facts,telemetry services=booking_service tokens="
    )
    assert not started.removed
    assert not started.changed


def test_a_replaced_file_is_a_change_even_of_a_token_alone(folder: Folder, gate_: Gate) -> None:
    gate_.take_changes()
    folder.write("callers.toml", CALLERS.replace(hashed("desk-1"), hashed("desk-2")))
    with capture_logs() as logs:
        (rotated,) = gate_.take_changes()
    assert rotated.changed == {
        "desk": (DESK, DESK.replace(hashed("desk-1")[:16], hashed("desk-2")[:16]))
    }
    assert logs[0]["changed"] == ["desk"]
    folder.write("callers.toml", CALLERS.replace("[desk]", "[till]"))
    (moved,) = gate_.take_changes()
    assert (moved.change, list(moved.added), list(moved.removed)) == (
        "RELOADED",
        ["till"],
        ["desk"],
    )
    folder.write("callers.toml", "no toml")
    assert gate_.take_changes() == []
    assert "desk-1" not in str(rotated.columns("i"))


def test_what_a_change_says_is_bounded_in_the_row_and_in_the_log(
    folder: Folder, gate_: Gate
) -> None:
    gate_.take_changes()
    many = "".join(
        f'["{number:05}{"é" * 100}"]\nroles = ["ops"]\ntokens_sha256 = ["{number:064x}"]\n'
        for number in range(5_000)
    )
    folder.write("callers.toml", many)
    with capture_logs() as logs:
        (change,) = gate_.take_changes()
    assert change.identities == 5_000
    assert change.left_out == 5_002 - len(change.added) - len(change.removed)
    assert len(change.added) > 10
    row = change.columns("i")
    assert sum(len(str(json.loads(str(each))).encode()) for each in row[6:9]) < 2 * MAX_CHANGE_BYTES
    assert len(str(logs).encode()) < 2 * MAX_CHANGE_BYTES
    assert logs[0]["left_out"] == change.left_out


def test_without_identities_the_start_says_so() -> None:
    made = gate(Settings.load({}), Access({}), lambda _: "")
    (started,) = made.take_changes()
    assert (started.change, started.file_sha256, started.identities) == ("STARTED", None, 0)
    assert made.take_changes() == []


async def test_changes_wait_for_the_database_and_are_written_once_in_order(
    folder: Folder, gate_: Gate
) -> None:
    written: list[AccessChange] = []
    broken = True

    async def write(change: AccessChange) -> None:
        if broken:
            raise ConnectionError
        written.append(change)

    trail = AccessTrail(gate_.take_changes, write)
    for number in range(MAX_PENDING + 10):
        folder.write("callers.toml", CALLERS.replace("= 7", f"= {number + 8}"))
        with pytest.raises(ConnectionError):
            await trail.look()
    broken = False
    await trail.look()
    await trail.look()
    assert len(written) == MAX_PENDING
    assert len({each.id for each in written}) == MAX_PENDING
    newest = [each.changed["desk"][1].split()[1] for each in written[-3:]]
    assert newest == [f"max_concurrent={MAX_PENDING + number}" for number in (15, 16, 17)]
