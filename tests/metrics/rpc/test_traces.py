"""The RPCs of metrics_service are spans too: an answer at once, a stream when it ends."""

from __future__ import annotations

from protos.metrics.v1 import metrics_pb2
from tests.metrics.running_service import running
from tests.servicekit.tracing.receiver import attributes, receiving

METADATA = (("traceparent", f"00-{7:032x}-{9:016x}-01"),)


async def test_an_answer_and_a_stream_are_spans_of_the_caller_s_trace(metrics_dsn: str) -> None:
    async with receiving() as receiver:
        async with running(
            metrics_dsn,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_TRACES_SAMPLER_ARG="0",
        ) as service:
            await service.metrics.GetMetrics(metrics_pb2.GetMetricsRequest(), metadata=METADATA)
            request = metrics_pb2.StreamMetricsRequest()
            stream = service.metrics.StreamMetrics(request, metadata=METADATA)
            assert await stream.read()
            stream.cancel()
            # Of a caller without a trace.
            await service.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())
        spans = await receiver.until(lambda spans: len(spans) == 2)
    assert {span.trace_id.hex() for span in spans} == {f"{7:032x}"}
    found = {span.name: attributes(span.attributes) for span in spans}
    assert {name: of["rpc.response.status_code"] for name, of in found.items()} == {
        "metrics.v1.MetricsService/GetMetrics": "OK",
        "metrics.v1.MetricsService/StreamMetrics": "CANCELLED",
    }
    assert not any("error.type" in of for of in found.values())
    assert {each["service.name"] for each in receiver.resources} == {"metrics_service"}
