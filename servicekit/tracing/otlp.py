"""Sends spans by OTLP over gRPC, with the exporter of OpenTelemetry. Only this module imports it,
and only a process that sends traces imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from grpc import StatusCode as Code
from opentelemetry.exporter.otlp.proto.grpc.exporter import OTLPExporterMixin
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from servicekit.tracing.span import Span
from servicekit.tracing.span import SpanKind as OurKind

TIMEOUT_S: Final = 1.0

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The semantic conventions that names and attributes follow."""

_KINDS: Final = {
    OurKind.INTERNAL: SpanKind.INTERNAL,
    OurKind.SERVER: SpanKind.SERVER,
    OurKind.CLIENT: SpanKind.CLIENT,
}
_SCOPE: Final = InstrumentationScope("farehold", schema_url=SCHEMA_URL)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class _Reasons(logging.Handler):
    """Takes the place of the exporter's log lines, which alone say why an export has failed."""

    last = "refused"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the status that a line names; its text is the receiver's."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.last = next((each.name for each in arguments if isinstance(each, Code)), self.last)


class OtlpExporter:
    """Sends to an address such as `http://127.0.0.1:4317`, as the service that `resource` names.

    The rest comes from the variables of OpenTelemetry, such as OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES; any exception for bad ones.
    """

    def __init__(self, endpoint: str, resource: dict[str, str]) -> None:
        self._resource = Resource.create(resource, SCHEMA_URL)
        self._exporter = OTLPSpanExporter(endpoint, timeout=TIMEOUT_S)
        self._reasons = _Reasons()
        logger = logging.getLogger(OTLPExporterMixin.__module__)
        logger.handlers[:], logger.propagate = [self._reasons], False

    def export(self, spans: Sequence[Span]) -> str:
        """Send spans, for at most TIMEOUT_S, and return "" if they were taken, else the status."""
        result = self._exporter.export([self._readable(span) for span in spans])
        return "" if result is SpanExportResult.SUCCESS else self._reasons.last

    def close(self) -> None:
        """End, also an export that another thread waits for."""
        self._exporter.shutdown()

    def _readable(self, span: Span) -> ReadableSpan:
        parent = span.parent_id
        remote = span.kind is OurKind.SERVER
        return ReadableSpan(
            span.name,
            context=_context(span.trace_id, span.span_id),
            parent=None if parent is None else _context(span.trace_id, parent, is_remote=remote),
            resource=self._resource,
            attributes=span.attributes,
            links=[
                Link(_context(link.trace_id, link.span_id), link.attributes) for link in span.links
            ],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: bytes, span_id: bytes, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), is_remote, _SAMPLED
    )
