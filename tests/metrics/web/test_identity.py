"""HTTP over TLS: who asks is known by certificate or token, as for RPCs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from google.protobuf.message import Message
from structlog.testing import capture_logs

from metrics_service.config import MetricsSettings
from metrics_service.server import ACCESS
from metrics_service.web.app import create_app
from metrics_service.web.calls import methods
from metrics_service.web.live import Live
from metrics_service.web.page import DEEP_LINKS
from metrics_service.web.stream import Streams
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.channels import ClientFiles
from servicekit.errors import not_found
from servicekit.http import server as web
from servicekit.http.server import HttpServer
from servicekit.identity.gate import gate
from servicekit.metadata import caller_header
from servicekit.tls import server_tls
from tests.metrics.running_service import BOUND_S
from tests.metrics.web.no_figures import no_figures
from tests.metrics.web.serving import calling
from tests.metrics.web.test_live import Parts
from tests.servicekit.identity.certificates import Folder, hashed

HEALTH = "/api/health/database"
CALLERS = f"""
["monitor.example.test"]
roles = ["monitor"]
tokens_sha256 = ["{hashed("monitor-1")}"]

["ops.example.test"]
roles = ["ops"]
tokens_sha256 = ["{hashed("ops-1")}"]

["desk.example.test"]
roles = ["service"]
tokens_sha256 = ["{hashed("desk-1")}"]

["busy.example.test"]
roles = ["monitor"]
tokens_sha256 = ["{hashed("busy-1")}"]
max_per_second = 0.1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tls")
    made.write("callers.toml", CALLERS)
    for file in ("monitor", "desk", "stranger"):
        made.issue(file, f"{file}.example.test")
    return made


@contextlib.asynccontextmanager
async def serving(folder: Folder, *, certificates: bool) -> AsyncIterator[int]:
    environ = folder.environ("METRICS_", certificates=certificates)
    settings = MetricsSettings.load({"METRICS_DATABASE_URL": "postgresql://x@y/z", **environ})
    health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
    app = create_app(no_figures, lambda _: health, gate=gate(settings, ACCESS, caller_header))
    server = HttpServer(app, host="127.0.0.1", port=0, setting="PORT", tls=server_tls(settings))
    port = await server.start()
    try:
        yield port
    finally:
        await server.stop()


async def answer(
    port: int, files: ClientFiles, *, token: str = "", path: str = HEALTH
) -> httpx.Response:
    context = files.context()
    assert context is not None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=BOUND_S) as client:
        return await client.get(f"https://127.0.0.1:{port}{path}", headers=headers)


async def test_a_certificate_says_who_asks(folder: Folder) -> None:
    async with serving(folder, certificates=True) as port:
        allowed = await answer(port, folder.client("monitor"))
        assert (allowed.status_code, allowed.json()["status"]) == (200, "HEALTHY")
        denied = await answer(port, folder.client("desk"))
        assert (denied.status_code, denied.json()["error"]) == (403, "Forbidden")
        unknown = await answer(port, folder.client("stranger"))
        assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
        assert (await answer(port, folder.client("monitor"), path="/none")).status_code == 404
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await answer(port, folder.client())
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as plain:
                await plain.get(f"http://127.0.0.1:{port}{HEALTH}")


async def test_a_token_says_who_asks(folder: Folder) -> None:
    with capture_logs() as logs:
        async with serving(folder, certificates=False) as port:
            files = folder.client()
            assert (await answer(port, files, token="monitor-1")).status_code == 200
            assert (await answer(port, files, token="desk-1")).status_code == 403
            assert (await answer(port, files, token="monitor-2")).status_code == 401
            assert (await answer(port, files)).status_code == 401
            assert (await answer(port, files, token="busy-1")).status_code == 200
            limited = await answer(port, files, token="busy-1")
            assert (limited.status_code, limited.headers["retry-after"]) == (429, "10")
    refused = [line for line in logs if line["event"] == "http_request_refused"]
    assert [(line["reason"], line["caller"]) for line in refused][:1] == [
        ("PERMISSION_DENIED", "desk.example.test")
    ]
    assert "monitor-2" not in str(logs)


class Nothing:
    """A servicer that has nothing."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Message]]:
        async def refuse(request: Message, context: object) -> Message:
            raise not_found("anything", name)

        return refuse


async def test_each_path_is_for_the_roles_of_its_entry(folder: Folder) -> None:
    paths = {f"/api/rpc/{name}": method.name for name, method in methods().items()}
    for path in (HEALTH, "/api/metrics/bookings", "/api/stream", "/"):
        paths[path] = f"http/{path}"
    paths |= {f"/{name}/x": "http//" for name in DEEP_LINKS}
    paths["/assets/index.html"] = "http//assets/*"
    environ = folder.environ("METRICS_", certificates=False)
    settings = MetricsSettings.load({"METRICS_DATABASE_URL": "postgresql://x@y/z", **environ})
    servicers = {method.service: Nothing() for method in methods().values()}
    live = Live(no_figures, lambda _: DatabaseHealth(), Parts(), Parts().status)
    streams = Streams(live, stall_s=BOUND_S, max_age_s=BOUND_S)
    guarded = gate(settings, ACCESS, caller_header)
    async with calling(servicers, gate=guarded, streams=streams) as client:
        for path, entry in paths.items():
            statuses = {}
            for caller, role in (("monitor", "monitor"), ("ops", "ops"), ("desk", "service")):
                headers = {"Authorization": f"Bearer {caller}-1"}
                # Of a stream only the head: it never ends.
                answer = await client.head(path, headers=headers)
                statuses[role] = answer.status_code
            found = {role for role, status in statuses.items() if status != 403}
            assert found == ACCESS.table[entry], path
            assert {statuses[role] for role in found} <= {200, 404}
            assert (await client.head(path)).status_code == 401


async def test_a_replaced_certificate_is_shown_to_new_connections(folder: Folder) -> None:
    async with serving(folder, certificates=True) as port:
        files = folder.client("monitor")
        assert (await answer(port, files)).status_code == 200
        folder.issue("server", "elsewhere.example.test")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await answer(port, files)
        folder.write("server.key", b"no key")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await answer(port, files)
        folder.issue("server", "127.0.0.1")
        assert (await answer(port, files)).status_code == 200


async def test_a_handshake_that_is_not_finished_ends(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "HANDSHAKE_TIMEOUT_S", 0.05)
    async with serving(folder, certificates=True) as port, asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


def test_tls_1_1_is_refused(folder: Folder) -> None:
    settings = MetricsSettings.load(
        {"METRICS_DATABASE_URL": "postgresql://x@y/z", **folder.environ("METRICS_")}
    )
    tls = server_tls(settings)
    assert tls is not None
    assert tls.context().minimum_version is ssl.TLSVersion.TLSv1_2
