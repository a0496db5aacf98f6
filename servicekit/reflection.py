"""gRPC reflection in both of its versions.

grpcio-reflection serves grpc.reflection.v1alpha only, and newer clients ask for v1 first. The two
have the same messages but for the package's name, so one servicer answers both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2


def _described() -> ServiceDescriptor:
    """Add the file of v1 to the descriptors of this process, since clients ask about it too."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = json_format.MessageToJson(alpha).replace("v1alpha", "v1")
    file = json_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.Default()
    # Adding an equal file again has no effect.
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("grpc.reflection.v1.ServerReflection")


V1: Final = _described()


def enable(service_names: Sequence[str], server: grpc.aio.Server) -> None:
    """Answer what these services, such as `booking.v1.BookingService`, and their messages are."""
    names = [*service_names, reflection.SERVICE_NAME, V1.full_name]
    reflection.enable_server_reflection(names, server)
    answer: Any = reflection.aio.ReflectionServicer(service_names=names).ServerReflectionInfo
    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1.full_name, handlers),))
