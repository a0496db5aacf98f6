"""Registers the servicers; streams go without a serialiser, since their frames are encoded once for
all readers.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from metrics_service.rpc import health, metrics, tracking
from protos.metrics.v1 import health_pb2, health_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from protos.tracking.v1 import tracking_pb2_grpc

SERVICES: Final = (tracking.SERVICE, metrics.SERVICE, health.SERVICE)


def add_tracking(servicer: tracking.TrackingService, server: grpc.aio.Server) -> None:
    tracking_pb2_grpc.add_TrackingServiceServicer_to_server(servicer, server)


def add_metrics(servicer: metrics.MetricsService, server: grpc.aio.Server) -> None:
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    stream: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_stream_rpc_method_handler(
        servicer.StreamMetrics,
        request_deserializer=metrics_pb2.StreamMetricsRequest.FromString,
        response_serializer=None,
    )
    server.add_registered_method_handlers(metrics.SERVICE, {"StreamMetrics": stream})


def add_health(servicer: health.HealthService, server: grpc.aio.Server) -> None:
    health_pb2_grpc.add_HealthServiceServicer_to_server(servicer, server)
    stream: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_stream_rpc_method_handler(
        servicer.WatchDatabaseHealth,
        request_deserializer=health_pb2.WatchDatabaseHealthRequest.FromString,
        response_serializer=None,
    )
    server.add_registered_method_handlers(health.SERVICE, {"WatchDatabaseHealth": stream})
