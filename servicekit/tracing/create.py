"""Makes the tracer that the settings ask for; without an endpoint OpenTelemetry is not imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from servicekit.start import StartError
from servicekit.tracing.queue import SpanQueue
from servicekit.tracing.span import Attributes
from servicekit.tracing.tracer import Tracer


class TraceSettings(Protocol):
    """What `ServerSettings` say of traces, and of the address that is served."""

    @property
    def otlp_endpoint(self) -> str: ...
    @property
    def trace_ratio(self) -> float: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def missing(settings: TraceSettings) -> str:
    """Return in one line what the settings ask for and is not installed; "" if all is there."""
    if not settings.otlp_endpoint:
        return ""
    try:
        import servicekit.tracing.otlp  # noqa: F401
    except ImportError:
        return (
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "pip install 'farehold[otlp]'"
        )
    return ""


def tracer(settings: TraceSettings, *, service: str, instance: str) -> Tracer:
    """Return the tracer of a service, to be made inside the running event loop.

    Raises StartError in one line where the extra `otlp` is missing, or a variable of OpenTelemetry
    is wrong.
    """
    if not settings.otlp_endpoint:
        return Tracer()
    if line := missing(settings):
        raise StartError(line)
    from servicekit.tracing.otlp import OtlpExporter

    resource = {
        "service.name": service,
        "service.namespace": "farehold",
        "service.version": _version(),
        "service.instance.id": instance,
    }
    try:
        exporter = OtlpExporter(settings.otlp_endpoint, resource)
    except Exception as error:
        raise StartError(f"a variable OTEL_* is wrong: {error}") from None
    return Tracer(SpanQueue(exporter), ratio=settings.trace_ratio, server=_address(settings))


def _version() -> str:
    try:
        return version("farehold")
    except PackageNotFoundError:
        return ""


def _address(settings: TraceSettings) -> Attributes:
    port = {"server.port": settings.port} if settings.port else {}
    return {"server.address": settings.host, **port}
