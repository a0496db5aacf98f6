"""A local endpoint with Sentry's envelope protocol that keeps what it receives."""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BOUND_S = 10.0


@dataclass
class Endpoint:
    """What arrived at POST /api/1/envelope/, decoded."""

    port: int = 0
    status: int = 200
    release: threading.Event = field(default_factory=threading.Event)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    events: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    check_ins: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.port}/1"

    def next(self) -> dict[str, Any]:
        return self.events.get(timeout=BOUND_S)


@contextlib.contextmanager
def listening() -> Iterator[Endpoint]:
    """An endpoint on a free port of loopback."""
    state = Endpoint()
    state.release.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            state.release.wait(BOUND_S)
            state.paths.append(self.path)
            state.keys.append(self.headers["X-Sentry-Auth"])
            state.raw.append(body)
            for event in events_of(body):
                state.events.put(event)
            for check_in in items_of(body, "check_in"):
                state.check_ins.put(check_in)
            self.send_response(state.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The event items of an envelope."""
    return items_of(body, "event")


def items_of(body: bytes, kind: str) -> list[dict[str, Any]]:
    """Those of a kind: a header line, then for each item a header and a payload."""
    header, rest = body.split(b"\n", 1)
    assert "event_id" in json.loads(header)
    found = []
    while rest.strip():
        line, rest = rest.split(b"\n", 1)
        item = json.loads(line)
        payload, rest = rest[: item["length"]], rest[item["length"] :].removeprefix(b"\n")
        if item["type"] == kind:
            found.append(json.loads(payload))
    return found
