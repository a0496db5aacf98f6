"""A local HTTP server that answers as it is told to, and keeps what it receives."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

BOUND_S: Final = 20.0
HANG: Final = "hang"
GARBAGE: Final = "garbage"
DRIP: Final = "drip"
CLOSE: Final = "close"


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def notices(self) -> list[tuple[str, str]]:
        """What a webhook's body says anew: each change with the id of its notice."""
        notes = [each["annotations"] for each in self.json["alerts"]]
        return [(each["change"], each["notice"]) for each in notes if each["change"] != "unchanged"]


@dataclass
class Receiver:
    """Answers with the next of `answers`, a status, (status, headers) or a way to misbehave, and
    with `always` when there is none.
    """

    port: int = 0
    always: Any = 200
    answers: deque[Any] = field(default_factory=deque)
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    arrived: queue.Queue[Request] = field(default_factory=queue.Queue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def next(self) -> Request:
        return self.arrived.get(timeout=BOUND_S)


@contextlib.contextmanager
def listening() -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = state.answers.popleft() if state.answers else state.always
            request = Request(self.path, dict(self.headers), body)
            state.requests.append(request)
            state.arrived.put(request)
            self.close_connection = True
            match answer:
                case "hang":
                    state.release.wait(BOUND_S)
                case "drip":
                    with contextlib.suppress(OSError):
                        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                        while not state.release.wait(0.05):
                            self.wfile.write(b"X")
                case "garbage":
                    self.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n" * 50)
                case "close":
                    pass
                case int() | tuple():
                    status, headers = answer if isinstance(answer, tuple) else (answer, {})
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "7")
                    self.end_headers()
                    self.wfile.write(b"garbage")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
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
