"""What callers see of a record that breaks the figures."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import httpx
import pytest
import structlog

from metrics_service import engine as engine_module
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.rpc.metrics import readable
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest
from protos.tracking.v1 import event_pb2
from servicekit.errors import ApiError
from tests.metrics.fragile import BREAKS_ANSWERS, Fragile
from tests.metrics.running_service import BOUND_S, Producer, running, until

CHECKPOINTS = {"METRICS_CHECKPOINT_INTERVAL_S": "3600"}


async def test_an_answer_that_fails_is_had_again_at_once(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "State", Fragile)
    with structlog.testing.capture_logs() as lines:
        async with running(metrics_dsn, **CHECKPOINTS) as service, Producer(service) as producer:
            producer.book(2)
            loss = event_pb2.TelemetryLoss(dropped_events=BREAKS_ANSWERS)
            producer.facts.add([event_pb2.Event(telemetry_loss=loss)])
            producer.book()
            await until(lambda: producer.facts.acknowledged == 3, "the batches")
            position = service.server.event_log.last_position
            await until(lambda: service.server.engine.position >= position, "their fold")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await service.metrics.GetMetrics(GetMetricsRequest())
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            async with asyncio.timeout(BOUND_S):
                while (snapshot := await figures(service.metrics)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert snapshot.business.confirmed == 3
            assert snapshot.quality.quarantined_batches == 1
            async with httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client:
                url = f"http://127.0.0.1:{service.http_port}/api/metrics/bookings"
                answer = await client.get(url)
            assert json.loads(answer.text)["metrics"]["business"]["confirmed"] == 3
    (interrupted,) = [line for line in lines if line["event"] == "fold_interrupted"]
    assert interrupted["reason"] == "OverflowError"


async def figures(metrics: Any) -> Any:
    """Return the snapshot; None while there is none."""
    try:
        return await metrics.GetMetrics(GetMetricsRequest())
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE):
            return None
        raise


def test_while_no_whole_state_is_known_callers_are_to_try_again() -> None:
    def state() -> None:
        raise UnreadableError("a record broke it")

    with pytest.raises(ApiError) as raised:
        readable(state)()
    assert (raised.value.spec.reason, raised.value.spec.code) == (
        "RECOVERING",
        grpc.StatusCode.UNAVAILABLE,
    )
    assert raised.value.retry_after_s == 1.0
