"""Who may not call causes no span, whatever trace it names."""

from __future__ import annotations

from pathlib import Path

from servicekit.tracing.queue import SpanQueue
from servicekit.tracing.tracer import Tracer
from tests.servicekit.identity.certificates import Folder
from tests.servicekit.identity.test_calls import CALLERS, READ, SELL, asks, running
from tests.servicekit.tracing.exporters import Recording


async def test_a_refused_caller_is_no_span(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS)
    for name in ("desk", "auditor", "stranger"):
        folder.issue(name, f"{name}.example.test")
    exporter = Recording()
    queue = SpanQueue(exporter)
    async with running(folder.environ("TEST_")) as shop:
        # Each call is recorded, as if its caller had named a trace.
        shop.server._interceptor._tracer = Tracer(queue, ratio=1.0)
        assert (await asks(shop, folder.client("stranger"))).startswith("UNAUTHENTICATED")
        assert (await asks(shop, folder.client("auditor"), SELL)).startswith("PERMISSION_DENIED")
        assert await asks(shop, folder.client("auditor"), READ) == "auditor.example.test"
    await queue.stop()
    (span,) = exporter.spans
    assert span.name == READ
    # Not who has called.
    assert "auditor" not in str(span.attributes)
