"""grpcurl where it is not installed: the part of its command line that the documents use, through
the server's reflection service and with the same JSON.

A flag or verb that it does not know is an error, never ignored. As a program:
`python -m tests.docs.grpcurl -plaintext 127.0.0.1:50051 list`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

TIMEOUT_S: Final = 10.0


class UsageError(Exception):
    """One line: the command line has something that is not supported here."""


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command line: to list services or methods, or to call `symbol` with `data`."""

    address: str
    listing: bool
    symbol: str
    data: str


def parse(arguments: list[str]) -> Command:
    """The arguments after the program's name."""
    plaintext, data, rest = False, "{}", list(arguments)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag == "-plaintext":
            plaintext = True
        elif flag == "-d" and rest:
            data = rest.pop(0)
        else:
            raise UsageError(f"{flag} is not supported")
    match plaintext, rest:
        case False, _:
            raise UsageError("only -plaintext is supported")
        case True, [address, "list"]:
            return Command(address, True, "", data)
        case True, [address, "list", symbol]:
            return Command(address, True, symbol, data)
        case True, [address, symbol] if "/" in symbol:
            return Command(address, False, symbol, data)
    raise UsageError(f"{' '.join(rest)} is not supported")


def outputs(command: Command) -> Iterator[str]:
    """What grpcurl prints, an element a message. Raises grpc.RpcError."""
    with grpc.insecure_channel(command.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        if command.listing and not command.symbol:
            yield "\n".join(sorted(database.get_services()))
        elif command.listing:
            service = pool.FindServiceByName(command.symbol)
            yield "\n".join(sorted(method.full_name for method in service.methods))
        else:
            name, _, method = command.symbol.partition("/")
            service = pool.FindServiceByName(name)
            if method not in service.methods_by_name:
                raise UsageError(f"{name} has no method {method}")
            yield from _call(channel, pool, service.methods_by_name[method], command.data)


def _call(
    channel: grpc.Channel, pool: DescriptorPool, method: MethodDescriptor, data: str
) -> Iterator[str]:
    if method.client_streaming:
        raise UsageError(f"{method.full_name} takes a stream, which is not supported")
    request = message_factory.GetMessageClass(method.input_type)()
    json_format.Parse(data, request, descriptor_pool=pool)
    path = f"/{method.containing_service.full_name}/{method.name}"
    codec: dict[str, Any] = {
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": message_factory.GetMessageClass(method.output_type).FromString,
    }
    if method.server_streaming:
        # It ends when its reader has enough.
        stream = channel.unary_stream(path, **codec)(request)
        for answer in stream:
            yield json_format.MessageToJson(answer, descriptor_pool=pool)
    else:
        answer = channel.unary_unary(path, **codec)(request, timeout=TIMEOUT_S)
        yield json_format.MessageToJson(answer, descriptor_pool=pool)


def main(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        for output in outputs(parse(arguments)):
            print(output, flush=True)
    except (UsageError, json_format.ParseError, KeyError) as error:
        print(error, file=sys.stderr)
        return 2
    except grpc.RpcError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has enough, such as head.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
