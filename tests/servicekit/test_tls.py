"""A TLS file that cannot be used is one line that names its setting, before anything starts."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme
from typer import Typer
from typer.testing import CliRunner

from booking_service.cli.commands import app as booking
from metrics_service.cli.commands import app as metrics
from servicekit import tls
from servicekit.settings import ServerSettings, SettingsError

GOOD = {
    "TLS_CERT": "cert.pem",
    "TLS_KEY": "key.pem",
    "TLS_CLIENT_CA": "ca.pem",
    "IDENTITIES": "callers.toml",
}
NOT_CERTIFICATES = r": it is not a PEM file of certificates$"
NOT_A_KEY = r": it is not a PEM file of a private key without a password$"

MISTAKES = [
    ({"CERT": "none.pem"}, r"^TLS_CERT='.*none.pem' cannot be read: No such file or directory$"),
    ({"KEY": "none.pem"}, r"^TLS_KEY='.*none.pem' cannot be read: No such file or directory$"),
    ({"CLIENT_CA": "none.pem"}, r"^TLS_CLIENT_CA='.*' cannot be read: No such file or directory$"),
    ({"CERT": "folder"}, r"^TLS_CERT='.*folder' cannot be read: Is a directory$"),
    ({"CERT": "ca.pem/x"}, r"^TLS_CERT='.*' cannot be read: Not a directory$"),
    ({"CERT": "empty.pem"}, f"^TLS_CERT='.*empty.pem'{NOT_CERTIFICATES}"),
    ({"CERT": "words.pem"}, f"^TLS_CERT='.*words.pem'{NOT_CERTIFICATES}"),
    ({"CERT": "broken.pem"}, f"^TLS_CERT='.*broken.pem'{NOT_CERTIFICATES}"),
    ({"CERT": "key.pem"}, f"^TLS_CERT='.*key.pem'{NOT_CERTIFICATES}"),
    ({"CLIENT_CA": "words.pem"}, f"^TLS_CLIENT_CA='.*words.pem'{NOT_CERTIFICATES}"),
    ({"KEY": "words.pem"}, f"^TLS_KEY='.*words.pem'{NOT_A_KEY}"),
    ({"KEY": "cert.pem"}, f"^TLS_KEY='.*cert.pem'{NOT_A_KEY}"),
    ({"KEY": "locked.pem"}, f"^TLS_KEY='.*locked.pem'{NOT_A_KEY}"),
    (
        {"KEY": "other.pem"},
        r"^TLS_KEY='.*other.pem': it is not the key of the certificate in TLS_CERT='.*cert.pem'$",
    ),
]
# A protected key, for which OpenSSL would ask for the password in the terminal.
LOCKED = """\
-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

AAAAAAAAAAAAAAAAAAAAAA==
-----END RSA PRIVATE KEY-----
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(str(made / "key.pem"))
    for part in server.cert_chain_pems:
        part.write_to_path(str(made / "cert.pem"), append=True)
    other.private_key_pem.write_to_path(str(made / "other.pem"))
    authority.cert_pem.write_to_path(str(made / "ca.pem"))
    (made / "callers.toml").write_text('[desk]\nroles = ["ops"]\n')
    (made / "empty.pem").touch()
    (made / "words.pem").write_text("no certificate\n")
    text = (made / "cert.pem").read_text()
    (made / "broken.pem").write_text(text.replace("MII", "XXX"))
    (made / "locked.pem").write_text(LOCKED)
    (made / "folder").mkdir()
    return made


def files(folder: Path, mistake: dict[str, str], prefix: str = "") -> dict[str, str]:
    changed = GOOD | {f"TLS_{key}": name for key, name in mistake.items()}
    return {f"{prefix}{key}": str(folder / name) for key, name in changed.items()}


@pytest.mark.parametrize(("mistake", "said"), MISTAKES, ids=[f"{each}" for each, _ in MISTAKES])
def test_a_file_that_cannot_be_used_is_one_line(
    folder: Path, mistake: dict[str, str], said: str
) -> None:
    settings = ServerSettings.load(files(folder, mistake))
    with pytest.raises(SettingsError, match=said) as raised:
        tls.server_tls(settings)
    assert "\n" not in str(raised.value)


def test_a_good_pair_is_taken(folder: Path) -> None:
    made = tls.server_tls(ServerSettings.load(files(folder, {})))
    assert made is not None
    assert isinstance(made.grpc_credentials(), grpc.ServerCredentials)
    assert tls.server_tls(ServerSettings.load({})) is None


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize(("app", "prefix"), [(booking, "BOOKING_"), (metrics, "METRICS_")])
def test_the_services_end_with_status_2_before_they_start(
    monkeypatch: pytest.MonkeyPatch, folder: Path, app: Typer, prefix: str, command: str
) -> None:
    monkeypatch.setenv(f"{prefix}DATABASE_URL", "postgresql://ana@127.0.0.1:1/x")
    for name, value in files(folder, {"KEY": "other.pem"}, prefix).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{prefix}TLS_KEY=")
    assert result.stderr.count("\n") == 1
