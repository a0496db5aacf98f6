"""Certificates and files of identities, as an operator would have them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import trustme

from servicekit.channels import ClientFiles


class Folder:
    """The files of one authority under `path`; each name has NAME.pem and NAME.key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(path / "ca.pem"))
        self._written = 0
        self.issue("server", "localhost", "127.0.0.1")

    def issue(self, file: str, *names: str, common_name: str | None = None) -> None:
        """Write a new certificate for the names, in place of an earlier one."""
        made = self.authority.issue_cert(*names, common_name=common_name)
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        self.write(f"{file}.pem", chain)
        self.write(f"{file}.key", made.private_key_pem.bytes())

    def write(self, name: str, content: bytes | str) -> Path:
        """Replace a file in one step, so that it counts as changed."""
        path = self.path / name
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
        # Writes within one tick of the file system's clock must differ too.
        self._written += 1
        os.utime(fresh, ns=(self._written * 10**9, self._written * 10**9))
        fresh.replace(path)
        return path

    def environ(self, prefix: str, *, certificates: bool = True) -> dict[str, str]:
        """The settings of a server whose callers have certificates, or tokens."""
        files = {"TLS_CERT": "server.pem", "TLS_KEY": "server.key", "IDENTITIES": "callers.toml"}
        if certificates:
            files["TLS_CLIENT_CA"] = "ca.pem"
        return {f"{prefix}{name}": str(self.path / file) for name, file in files.items()}

    def client(self, file: str = "", *, token: Path | None = None) -> ClientFiles:
        """What a client with a certificate, or a token, or neither, has."""
        certificate = self.path / f"{file}.pem" if file else None
        key = self.path / f"{file}.key" if file else None
        return ClientFiles("TEST_", self.path / "ca.pem", certificate, key, token)


def hashed(token: str) -> str:
    """The form of a token in the file of identities."""
    return hashlib.sha256(token.encode()).hexdigest()
