"""Who calls and what they may, over real connections: certificates, tokens, rotation, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from pydantic_settings import SettingsConfigDict
from structlog.testing import capture_logs

from servicekit.channels import ClientFiles
from servicekit.context import current_call
from servicekit.identity import gate
from servicekit.identity.access import Access
from servicekit.pem import PemError
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings, SettingsError
from tests.servicekit.identity.certificates import Folder, hashed

BOUND_S = 20.0
SELL, READ, FORGOTTEN = "shop.v1.Shop/Sell", "shop.v1.Shop/Read", "shop.v1.Shop/Forgotten"
ACCESS = Access({SELL: ["service"], READ: ["service", "ops"]})

CALLERS = """
["desk.example.test"]
roles = ["service"]

["auditor.example.test"]
roles = ["ops"]
"""
TOKENS = f"""
[desk]
roles = ["service"]
tokens_sha256 = ["{hashed("desk-1")}", "{hashed("desk-2")}"]

[auditor]
roles = ["ops"]
tokens_sha256 = ["{hashed("auditor-1")}"]
"""


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Shop:
    """A server whose RPCs answer with the caller's name."""

    def __init__(self, environ: dict[str, str]) -> None:
        settings = Settings.load({"TEST_PORT": "0", **environ})
        self.ends: list[RpcEnd] = []
        self.held = asyncio.Event()
        self.server = GrpcServer(settings, domain="test", on_rpc=self.ends.append, access=ACCESS)
        handlers: dict[str, Any] = {
            "Sell": grpc.unary_unary_rpc_method_handler(self.answer),
            "Read": grpc.unary_unary_rpc_method_handler(self.answer),
            "Forgotten": grpc.unary_unary_rpc_method_handler(self.answer),
        }
        generic = grpc.method_handlers_generic_handler("shop.v1.Shop", handlers)
        self.server.grpc.add_generic_rpc_handlers((generic,))
        self.target = ""

    async def answer(self, request: bytes, _context: Any) -> bytes:
        if request == b"hold":
            await self.held.wait()
        call = current_call.get()
        assert call is not None
        return call.caller.encode()


@asynccontextmanager
async def running(environ: dict[str, str]) -> AsyncIterator[Shop]:
    shop = Shop(environ)
    port = await shop.server.start([])
    shop.target = f"localhost:{port}"
    try:
        yield shop
    finally:
        shop.held.set()
        await shop.server.drain()


async def asks(shop: Shop, files: ClientFiles, method: str = SELL, body: bytes = b"") -> str:
    """The answer to one call over a connection of its own, or the code and the text."""
    async with files.open(shop.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = channel.unary_unary(f"/{method}")
        try:
            answer = await call(body, timeout=BOUND_S)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(answer, "utf-8")


async def status_of(shop: Shop, files: ClientFiles) -> int:
    async with files.open(shop.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
        return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=BOUND_S)).status)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tls")
    made.write("callers.toml", CALLERS)
    made.issue("desk", "desk.example.test")
    made.issue("auditor", "auditor.example.test")
    return made


async def test_a_certificate_says_who_calls_and_the_table_what_that_caller_may(
    folder: Folder,
) -> None:
    folder.issue("stranger", "stranger.example.test")
    folder.issue("both", "unknown.example.test", "auditor.example.test")
    async with running(folder.environ("TEST_")) as shop:
        assert await asks(shop, folder.client("desk")) == "desk.example.test"
        assert await asks(shop, folder.client("auditor"), READ) == "auditor.example.test"
        assert await asks(shop, folder.client("both"), READ) == "auditor.example.test"
        assert await asks(shop, folder.client("auditor"), SELL) == (
            "PERMISSION_DENIED: auditor.example.test may not call Sell"
        )
        assert await asks(shop, folder.client("desk"), FORGOTTEN) == (
            "PERMISSION_DENIED: desk.example.test may not call Forgotten"
        )
        assert await asks(shop, folder.client("stranger")) == (
            "UNAUTHENTICATED: the certificate is not accepted: its names are not known"
        )
        assert (await asks(shop, folder.client())).startswith("UNAVAILABLE: ")
        assert await status_of(shop, folder.client("stranger")) == 1, "health is open"
    assert [(end.reason, end.call.caller) for end in shop.ends if end.reason] == [
        ("PERMISSION_DENIED", "auditor.example.test"),
        ("PERMISSION_DENIED", "desk.example.test"),
        ("UNAUTHENTICATED", ""),
    ]


async def test_the_subject_of_a_certificate_proves_nothing(folder: Folder) -> None:
    folder.issue("subject", common_name="desk.example.test")
    folder.issue("address", "127.0.0.1", common_name="desk.example.test")
    async with running(folder.environ("TEST_")) as shop:
        for file in ("subject", "address"):
            assert await asks(shop, folder.client(file)) == (
                "UNAUTHENTICATED: the certificate is not accepted: it has no URI or DNS name"
            )


async def test_a_certificate_of_another_authority_is_refused(
    folder: Folder, tmp_path: Path
) -> None:
    forged = Folder(tmp_path / "forged")
    forged.issue("desk", "desk.example.test")
    files = ClientFiles(
        "", folder.path / "ca.pem", forged.path / "desk.pem", forged.path / "desk.key"
    )
    async with running(folder.environ("TEST_")) as shop:
        assert (await asks(shop, files)).startswith("UNAVAILABLE: ")


async def test_a_token_says_who_calls(folder: Folder) -> None:
    folder.write("callers.toml", TOKENS)
    async with running(folder.environ("TEST_", certificates=False)) as shop:

        async def with_token(token: str, method: str = SELL) -> str:
            return await asks(shop, folder.client(token=folder.write("token", token)), method)

        assert await with_token("desk-1") == await with_token("desk-2\n") == "desk"
        assert await with_token("auditor-1", READ) == "auditor"
        assert await with_token("auditor-1") == "PERMISSION_DENIED: auditor may not call Sell"
        for wrong in ("desk-3", hashed("desk-1"), "x" * 1024):
            assert await with_token(wrong) == "UNAUTHENTICATED: the token is not known"
        assert await asks(shop, folder.client()) == (
            "UNAUTHENTICATED: authorization must be Bearer and a token"
        )
        assert await status_of(shop, folder.client()) == 1, "health is open"


async def test_a_new_token_is_sent_over_the_connection_that_is_open(folder: Folder) -> None:
    folder.write("callers.toml", TOKENS)
    files = folder.client(token=folder.write("token", "desk-1"))
    async with (
        running(folder.environ("TEST_", certificates=False)) as shop,
        files.open(shop.target) as channel,
    ):
        call: Any = channel.unary_unary(f"/{READ}")
        assert await call(b"", timeout=BOUND_S) == b"desk"
        folder.write("token", "auditor-1")
        assert await call(b"", timeout=BOUND_S) == b"auditor"
        folder.write("token", "")
        assert await call(b"", timeout=BOUND_S) == b"auditor", "an empty file changes nothing"


async def test_the_identities_are_read_again_and_a_bad_file_changes_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "RELOAD_S", 0.0)
    auditor = folder.client("auditor")
    with capture_logs() as logs:
        async with running(folder.environ("TEST_")) as shop:
            assert (await asks(shop, auditor)).startswith("PERMISSION_DENIED")
            folder.write("callers.toml", CALLERS.replace('"ops"', '"service"'))
            assert await asks(shop, auditor) == "auditor.example.test"
            folder.write("callers.toml", "roles = nothing")
            assert await asks(shop, auditor) == "auditor.example.test"
            (folder.path / "callers.toml").unlink()
            assert await asks(shop, auditor) == "auditor.example.test"
            folder.write("callers.toml", CALLERS.replace("auditor", "another"))
            assert (await asks(shop, auditor)).startswith("UNAUTHENTICATED")
    reloads = [line for line in logs if line["event"].startswith("identities_")]
    assert [line["event"] for line in reloads] == [
        "identities_reloaded",
        "identities_reload_failed",
        "identities_reload_failed",
        "identities_reloaded",
    ]
    assert reloads[0]["changed"] == ["auditor.example.test"]
    assert (reloads[3]["added"], reloads[3]["removed"]) == (
        ["another.example.test"],
        ["auditor.example.test"],
    )


async def test_a_replaced_certificate_is_shown_to_new_connections_only(folder: Folder) -> None:
    before = folder.client("desk")
    async with running(folder.environ("TEST_")) as shop, before.open(shop.target) as channel:
        call: Any = channel.unary_unary(f"/{SELL}")
        assert await call(b"", timeout=BOUND_S) == b"desk.example.test"
        # The pair does not fit while only one of the two files is there.
        folder.issue("server", "elsewhere.example.test")
        fitting = (folder.path / "server.key").read_bytes()
        folder.write("server.key", b"no key")
        with capture_logs() as logs:
            assert await asks(shop, before) == "desk.example.test", "the last good pair is served"
        assert [line["event"] for line in logs if line["event"].startswith("tls_")] == [
            "tls_reload_failed"
        ]
        folder.write("server.key", fitting)
        assert (await asks(shop, before)).startswith("UNAVAILABLE: "), "it has another name now"
        folder.issue("server", "localhost")
        assert await asks(shop, before) == "desk.example.test"
        assert await call(b"", timeout=BOUND_S) == b"desk.example.test", "never cut"


async def test_an_identity_has_only_so_many_calls_and_is_told_when_to_try_again(
    folder: Folder,
) -> None:
    folder.write("callers.toml", CALLERS.replace('["service"]', '["service"]\nmax_concurrent = 1'))
    desk, auditor = folder.client("desk"), folder.client("auditor")
    async with running(folder.environ("TEST_")) as shop, desk.open(shop.target) as channel:
        call: Any = channel.unary_unary(f"/{SELL}")
        first = asyncio.ensure_future(call(b"hold", timeout=BOUND_S))
        refused = await refusal(call)
        while refused is None:  # the first call has not arrived
            refused = await refusal(call)
        assert await asks(shop, auditor, READ) == "auditor.example.test"
        shop.held.set()
        assert await first == b"desk.example.test"
        assert await call(b"", timeout=BOUND_S) == b"desk.example.test"
    assert refused.code() is StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(refused)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToTimedelta().total_seconds() == pytest.approx(0.1)


async def refusal(call: Any) -> Any:
    try:
        await call(b"", timeout=BOUND_S)
    except grpc.aio.AioRpcError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HOST": "0.0.0.0"}, "without TEST_TLS_CERT, unless TEST_ALLOW_PLAINTEXT_REMOTE=true"),
        (
            {"HOST": "0.0.0.0", "ALLOW_PLAINTEXT_REMOTE": "true"},
            "without TEST_IDENTITIES, unless TEST_ALLOW_ANONYMOUS_REMOTE=true",
        ),
        ({"HOST": "0.0.0.0", "TLS_CERT": "c", "TLS_KEY": "k"}, "without TEST_IDENTITIES, unless"),
        ({"TLS_CERT": "c", "TLS_KEY": "k", "TLS_CLIENT_CA": "a"}, "needs TEST_IDENTITIES"),
        ({"IDENTITIES": "i"}, "TEST_IDENTITIES needs TEST_TLS_CERT and TEST_TLS_KEY"),
        (
            {"IDENTITIES": "i", "TLS_CERT": "c", "TLS_KEY": "k", "TRUST_CALLER_HEADER": "true"},
            "TEST_TRUST_CALLER_HEADER cannot be set with TEST_IDENTITIES",
        ),
    ],
)
def test_a_server_that_would_take_everybody_does_not_start(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.load({f"TEST_{name}": value for name, value in environ.items()})


def test_everybody_is_served_elsewhere_if_the_settings_say_so() -> None:
    Settings.load(
        {
            "TEST_HOST": "0.0.0.0",
            "TEST_ALLOW_PLAINTEXT_REMOTE": "true",
            "TEST_ALLOW_ANONYMOUS_REMOTE": "true",
        }
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"certificate": "desk.pem", "key": "desk.key"}, "TEST_TLS_CERT needs TEST_TLS_CA"),
        ({"token": "desk.key"}, "TEST_TOKEN_FILE needs TEST_TLS_CA"),
        ({"authority": "ca.pem", "key": "desk.key"}, "must be set together"),
        ({"authority": "none.pem"}, r"TEST_TLS_CA='.*none.pem' cannot be read"),
        ({"authority": "desk.key"}, r"TEST_TLS_CA='.*' *: it is not a PEM file of certificates"),
        ({"authority": "ca.pem", "token": "ca.pem"}, r"TEST_TOKEN_FILE='.*ca.pem': it is not a"),
        (
            {"authority": "ca.pem", "certificate": "desk.pem", "key": "auditor.key"},
            r"TEST_TLS_KEY='.*auditor.key': it is not the key of the certificate",
        ),
    ],
)
def test_a_client_file_that_cannot_be_used_is_one_line(
    folder: Folder, files: dict[str, str], said: str
) -> None:
    paths = {name: folder.path / file for name, file in files.items()}
    with pytest.raises(PemError, match=said) as raised:
        ClientFiles("TEST_", **paths).check()
    assert "\n" not in str(raised.value)
