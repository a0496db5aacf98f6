"""Refusals of callers are counted one by one, and logged by reason once a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from servicekit.handlers import LineLimit
from tests.servicekit.identity.certificates import Folder
from tests.servicekit.identity.test_calls import BOUND_S, CALLERS, READ, SELL, asks, running

BUSY = """
["busy.example.test"]
roles = ["service"]
max_per_second = 0.001
"""
KINDS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED")


async def test_a_flood_of_refusals_is_counted_and_hides_no_other_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS + BUSY)
    for file in ("auditor", "busy", "stranger"):
        folder.issue(file, f"{file}.example.test")
    now_s = 100.0
    async with running(folder.environ("TEST_")) as shop:
        limits = {kind: LineLimit(lambda: now_s) for kind in KINDS}
        monkeypatch.setattr(shop.server._interceptor, "_refused_lines", limits)
        assert await asks(shop, folder.client("busy"), READ) == "busy.example.test"
        with capture_logs() as logs:
            for second in (1, 2):
                await flood(shop.target, folder, "stranger", READ)
                await flood(shop.target, folder, "auditor", SELL)
                await flood(shop.target, folder, "busy", READ)
                now_s += second
    counted = Counter((end.reason, end.call.caller) for end in shop.ends if end.reason)
    assert counted == {
        ("UNAUTHENTICATED", ""): 40,
        ("PERMISSION_DENIED", "auditor.example.test"): 40,
        ("RATE_LIMITED", "busy.example.test"): 40,
    }
    lines = [line for line in logs if line["event"] == "rpc_ended"]
    assert [(line["reason"], line["caller"], line.get("suppressed", 0)) for line in lines] == [
        (reason, caller, suppressed) for suppressed in (0, 19) for reason, caller in counted
    ]


async def flood(target: str, folder: Folder, file: str, method: str) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with folder.client(file).open(target, options) as channel:
        call: Any = channel.unary_unary(f"/{method}")
        answers = await asyncio.gather(
            *(call(b"", timeout=BOUND_S) for _ in range(20)), return_exceptions=True
        )
    assert all(isinstance(each, grpc.aio.AioRpcError) for each in answers)
