"""GET /metrics of both services is for the roles of its entry, like every other path."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from booking_service.config import BookingSettings
from booking_service.server import ACCESS as BOOKING
from metrics_service.config import MetricsSettings
from metrics_service.server import ACCESS as METRICS
from metrics_service.web import app as site
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.caller import ROLES
from servicekit.exposition import app
from servicekit.exposition.exposition import Exposition
from servicekit.exposition.scrape import Scrape
from servicekit.identity.gate import Gate, gate
from servicekit.metadata import caller_header
from tests.metrics.web.no_figures import no_figures
from tests.servicekit.identity.certificates import Folder, hashed

# A producer needs more than a role, and has none of these paths.
ROLES_HERE = sorted(ROLES - {"producer"})
CALLERS = "\n".join(
    f'["{role}.example.test"]\nroles = ["{role}"]\ntokens_sha256 = ["{hashed(role)}"]\n'
    for role in ROLES_HERE
)


def of_booking(folder: Folder) -> Starlette:
    environ = folder.environ("BOOKING_", certificates=False)
    settings = BookingSettings.load({"BOOKING_DATABASE_URL": "postgresql://x@y/z", **environ})
    own: Gate = gate(settings, BOOKING, caller_header)
    return app.create_app(Exposition([]), gate=own, hosts=("shop",), setting="BOOKING_HTTP_HOSTS")


def of_metrics(folder: Folder) -> Starlette:
    environ = folder.environ("METRICS_", certificates=False)
    settings = MetricsSettings.load({"METRICS_DATABASE_URL": "postgresql://x@y/z", **environ})
    own: Gate = gate(settings, METRICS, caller_header)
    scrape = Scrape(Exposition([]))
    return site.create_app(no_figures, lambda _: DatabaseHealth(), gate=own, scrape=scrape)


@pytest.mark.parametrize("make", [of_booking, of_metrics])
async def test_monitors_and_operators_may_scrape_and_nobody_else(
    tmp_path: Path, make: type
) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS)
    transport = httpx.ASGITransport(app=make(folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        statuses = {}
        with capture_logs() as lines:
            for role in ROLES_HERE:
                headers = {"Authorization": f"Bearer {role}"}
                statuses[role] = (await client.get("/metrics", headers=headers)).status_code
            assert (await client.get("/metrics")).status_code == 401
    assert {role for role, status in statuses.items() if status == 200} == {"monitor", "ops"}
    assert {status for role, status in statuses.items() if role not in ("monitor", "ops")} == {403}
    assert "http_request_refused" in {line["event"] for line in lines}
