"""The page's files, its headers, and for which names of this service anything is answered."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from metrics_service.config import MetricsSettings
from metrics_service.web.headers import POLICY
from metrics_service.web.page import DEEP_LINKS
from servicekit.settings import SettingsError
from tests.metrics.web.serving import calling

NAMES = ("metrics.example.org",)


async def test_the_page_is_the_same_wherever_it_links_to() -> None:
    async with calling() as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == POLICY
        assert "default-src 'none'" in POLICY
        assert "unsafe" not in POLICY
        assert page.headers["cache-control"] == "no-cache"
        for name in DEEP_LINKS:
            for rest in ("", "42", "a/b", "%3Cscript%3E", "..%2f..%2fetc%2fpasswd"):
                other = await client.get(f"/{name}/{rest}?range=24h")
                assert (other.status_code, other.content) == (200, page.content)


async def test_a_file_is_sent_again_only_when_it_has_changed() -> None:
    async with calling() as client:
        page = await client.get("/")
        tag = page.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            same = await client.get("/", headers={"If-None-Match": known})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["etag"] == tag
        changed = await client.get("/", headers={"If-None-Match": '"other"'})
        assert changed.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("br;q=1.0, gzip;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("xgzip", None),
    ],
)
async def test_a_file_is_packed_for_who_takes_it(accepted: str, coding: str | None) -> None:
    async with calling() as client:
        plain = await client.get("/assets/main.js", headers={"Accept-Encoding": "identity"})
        file = await client.get("/assets/main.js", headers={"Accept-Encoding": accepted})
        assert file.headers.get("content-encoding") == coding
        assert file.content == plain.content
        assert file.headers["vary"] == "Accept-Encoding"
        assert (file.headers["etag"] == plain.headers["etag"]) == (coding is None)
        assert int(file.headers["content-length"]) <= len(file.content)


@pytest.mark.parametrize(
    "path", ["none.js", "", "../app.py", "..%2fapp.py", "%2e%2e/access.toml", "/etc/passwd", "%00"]
)
async def test_nothing_but_the_files_of_the_page_is_served(path: str) -> None:
    async with calling() as client:
        url = httpx.URL(client.base_url, raw_path=f"/assets/{path}".encode())
        assert (await client.get(url)).status_code == 404
        assert (await client.get("/assets/index.html")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "10.2.3.4",
        "metrics.example.org",
        "Metrics.Example.Org.:80",
    ],
)
async def test_its_own_names_and_addresses_are_answered(host: str) -> None:
    async with calling(hosts=NAMES) as client:
        answer = await client.get("/api/health/database", headers={"Host": host})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "metrics.example.org.evil.example",
        "evil.example:localhost",
        "[evil.example]",
        "127.0.0.1:8080:evil.example",
        "0x7f000001",
        "*",
    ],
)
async def test_a_name_that_points_here_reads_nothing(host: str) -> None:
    async with calling(hosts=NAMES) as client:
        for path in ("/", "/api/health/database", "/api/stream", "/none"):
            answer = await client.get(path, headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]) == (421, "Misdirected Request")
            assert "METRICS_HTTP_HOSTS" in answer.json()["description"]


def settings(**variables: str) -> MetricsSettings:
    return MetricsSettings.load({"METRICS_DATABASE_URL": "postgresql://x@y/z", **variables})


def test_the_names_are_those_of_the_settings() -> None:
    assert settings().http_names == {"127.0.0.1"}
    assert settings(
        METRICS_HTTP_HOST="localhost",
        METRICS_EXTERNAL_URL="https://Metrics.example.org:8443/x",
        METRICS_HTTP_HOSTS="a.example, B.example",
    ).http_names == {"localhost", "metrics.example.org", "a.example", "b.example"}
    for bad in ("a.example:80", "https://a.example", "a b", "[::1]", "a/b", "é"):
        with pytest.raises((SettingsError, ValidationError), match="names without ports"):
            settings(METRICS_HTTP_HOSTS=bad)
