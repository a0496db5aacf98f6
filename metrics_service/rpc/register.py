"""Builds the servicers of the tracking and metrics contracts and puts them on a server.

Streams are registered without a serialiser: their frames are encoded once for all readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import grpc

from metrics_service.alerts.service import Alerts
from metrics_service.eventlog.event_log import EventLog
from metrics_service.fanout import Fanout
from metrics_service.health.paging import Page
from metrics_service.ingest.streams import Ingest
from metrics_service.rpc import alerts, deployments, health, metrics, tracking
from metrics_service.rpc.sessions import Sessions
from metrics_service.storage.deployments import Deployments
from protos.metrics.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    deployment_pb2_grpc,
    health_pb2,
    health_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
)
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.tracking.v1 import tracking_pb2_grpc

LARGE_MESSAGES: Final = (f"{tracking.SERVICE}/Stream",)
"""The RPCs whose messages may have 1 MiB; those of the others have 256 KiB."""

SERVICES: Final = (
    tracking.SERVICE,
    metrics.SERVICE,
    alerts.SERVICE,
    deployments.SERVICE,
    health.SERVICE,
)

EARLY: Final = (health.SERVICE, alerts.SERVICE)
"""Those that answer before the figures are restored, and on a standby."""


class Readable(metrics.Answers, deployments.Hourly, Protocol):
    """The state, as all servicers read it."""


def add_servicers(
    server: grpc.aio.Server,
    ingest: Ingest,
    state: Callable[[], Readable],
    event_log: EventLog,
    snapshots: Fanout[metrics.Question],
    verdict: Callable[[Page], DatabaseHealth],
    verdicts: Fanout[None],
    kept: Deployments,
    own_alerts: Alerts,
    *,
    stall_s: float,
    repeat_s: float,
) -> dict[str, object]:
    """Register every service: producers go to the ingest, reads to the state, to what is stored
    beside the log, and to the verdict. Returns the servicers of all that read, by service.
    """
    tracking_pb2_grpc.add_TrackingServiceServicer_to_server(
        tracking.TrackingService(ingest), server
    )
    figures = metrics.MetricsService(
        state,
        Sessions(event_log.sessions),
        snapshots,
        event_log.history,
        stall_s=stall_s,
        repeat_s=repeat_s,
    )
    add_metrics(figures, server)
    reports = deployments.DeploymentService(kept, state, event_log.history)
    add_deployments(reports, server)
    verdict_service = health.HealthService(verdict, verdicts, stall_s=stall_s)
    add_health(verdict_service, server)
    alert_service = alerts.AlertService(own_alerts, stall_s=stall_s, repeat_s=repeat_s)
    add_alerts(alert_service, server)
    return {
        metrics.SERVICE: figures,
        deployments.SERVICE: reports,
        health.SERVICE: verdict_service,
        alerts.SERVICE: alert_service,
    }


def add_alerts(servicer: alerts.AlertService, server: grpc.aio.Server) -> None:
    alert_pb2_grpc.add_AlertServiceServicer_to_server(servicer, server)
    stream: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_stream_rpc_method_handler(
        servicer.StreamAlerts,
        request_deserializer=alert_pb2.StreamAlertsRequest.FromString,
        response_serializer=None,
    )
    server.add_registered_method_handlers(alerts.SERVICE, {"StreamAlerts": stream})


def add_metrics(servicer: metrics.MetricsService, server: grpc.aio.Server) -> None:
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    stream: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_stream_rpc_method_handler(
        servicer.StreamMetrics,
        request_deserializer=metrics_pb2.StreamMetricsRequest.FromString,
        response_serializer=None,
    )
    server.add_registered_method_handlers(metrics.SERVICE, {"StreamMetrics": stream})


def add_deployments(servicer: deployments.DeploymentService, server: grpc.aio.Server) -> None:
    deployment_pb2_grpc.add_DeploymentServiceServicer_to_server(servicer, server)


def add_health(servicer: health.HealthService, server: grpc.aio.Server) -> None:
    health_pb2_grpc.add_HealthServiceServicer_to_server(servicer, server)
    stream: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_stream_rpc_method_handler(
        servicer.WatchDatabaseHealth,
        request_deserializer=health_pb2.WatchDatabaseHealthRequest.FromString,
        response_serializer=None,
    )
    server.add_registered_method_handlers(health.SERVICE, {"WatchDatabaseHealth": stream})
