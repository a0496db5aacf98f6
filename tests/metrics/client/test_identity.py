"""A service that embeds the client reports and asks with TLS and its own token."""

from __future__ import annotations

from pathlib import Path

from metrics_service import client
from protos.metrics.v1.health_pb2 import DatabaseHealth
from tests.metrics.running_service import running, until
from tests.servicekit.identity.certificates import Folder, hashed

CALLERS = f"""
[shop]
roles = ["producer", "monitor"]
services = ["shop"]
lanes = ["telemetry"]
tokens_sha256 = ["{hashed("shop-1")}"]
"""


async def test_one_token_is_for_what_is_reported_and_what_is_asked(
    metrics_dsn: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS)
    files = folder.client(token=folder.write("token", "shop-1\n"))
    environ = folder.environ("METRICS_", certificates=False)
    async with running(metrics_dsn, **environ) as service:
        telemetry = client.init(service.target, service="shop", files=files)
        try:
            client.flow.track_view("p-1", session_id="visitor")
        finally:
            await telemetry.close(30.0)
        verdict = await client.check_database_health(
            service.target, credentials=files.credentials(), timeout_s=30.0
        )
        assert verdict.status in {*DatabaseHealth.Status.values()}
        endpoint = client.create_booking_metrics_endpoint(
            service.target, credentials=files.credentials(), timeout_s=30.0
        )
        async with endpoint:
            state = service.server.engine.current_state
            await until(lambda: state().metrics().funnel.entered == 1, "the view is folded")
            assert (await endpoint.get_conversion_funnel()).steps[0].actors == 1
