"""HTTP requests as bytes: paths, methods, headers and bodies that no client would send."""

from __future__ import annotations

from random import Random
from typing import Final

METHODS: Final = (
    *("GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PATCH", "get", "G\0T", "X" * 5000, "", "GET GET", "PRI"),
)
PATHS: Final = (
    *("/api/health/database", "/api/metrics/bookings", "/", "/metrics", "/nowhere", "*", ""),
    *("/api/health/database/", "//api/health/database", "/api/../api/health/database"),
    *("http://other.example/api/health/database", "/api/health/%64atabase", "/%", "/%zz", "/%00"),
    *("/%ff%fe", "/\u00e9", "/\U0001f3e8", "/" + "a" * 9_000, "/" + "a" * 70_000, "/[/]\x1b[2J"),
    *("/api/metrics/bookings;jsessionid=1", "/api/health/database\\..", "/.." * 500),
    *("/api/rpc/GetMetrics", "/api/rpc/GetSeries", "/api/rpc/Nothing", "/api/rpc/", "/queries/x"),
    *("/assets/main.js", "/assets/../app.py", "/assets/%2e%2e/app.py", "/alerts/" + "9" * 400),
)
QUERIES: Final = (
    *("", "", "", "?", "?window=1", "?window=-1&window=NaN", "?" + "a=1&" * 3_000, "?%", "?\0"),
    *("?\u00e9=\U0001f3e8", "?a[]=1#fragment", "??" * 50),
)
VERSIONS: Final = (
    *("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.99"),
    *("HTTP/1.1 ", "http/1.1", ""),
)
HEADERS: Final = (
    *("Host: x", "Host: x\r\nHost: y", "Host: [::1", "Host: \u00e9", "Content-Length: 5"),
    *("Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 1, 2"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x"),
    *("Expect: 100-continue", "Expect: x", "Connection: close", "Connection: upgrade, close"),
    *("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x", "Upgrade: h2c"),
    *("Accept: */*;q=\0", "Accept-Encoding: gzip, br;q=9, \xff", "Accept-Language: " + "x" * 9_000),
    *("X: " + "y" * 70_000, "X" * 70_000 + ": y", "no colon", ": no name", "Space : x", " folded"),
    *("Range: bytes=9999999-0", "If-None-Match: *", "Cookie: " + "a=b; " * 900, "\x1b[2J: x"),
    *("X-Forwarded-For: ' OR 1=1", "Authorization: Basic \xff", "Content-Type: text/\x7f"),
)
BODIES: Final = (
    *(b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"-1\r\nx"),
    *(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 5_000, b"zz\r\n"),
)


def request(random: Random) -> bytes:
    """Return one request, or bytes that are none."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(1, 3_000))
    line = f"{random.choice(METHODS)} {random.choice(PATHS)}{random.choice(QUERIES)} "
    headers = [random.choice(HEADERS) for _ in range(random.choice((0, 1, 1, 2, 3, 6)))]
    if random.random() < 0.6:
        headers.insert(0, "Host: localhost")
    if random.random() < 0.05:
        headers += [f"X-{number}: y" for number in range(random.choice((100, 1_000, 5_000)))]
    end = random.choice(("\r\n", "\r\n", "\r\n", "\n", "\r"))
    text = end.join([line + random.choice(VERSIONS), *headers, "", ""])
    data = text.encode("utf-8", errors="replace") + random.choice(BODIES)
    if random.random() < 0.1:
        data = data[: random.randrange(len(data))]
    return data
