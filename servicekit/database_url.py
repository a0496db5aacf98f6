"""Checks the URL of a PostgreSQL database, and shows it without anything that may be a secret."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

SCHEMES: Final = ("postgresql", "postgres")
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DEFAULT_PORT: Final = 5432
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def problem(url: str) -> str:
    """Return why `url` is no address of a database, without any part of it; "" for a good one."""
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return f"it does not begin with {SCHEMES[0]}://"
    if re.search(r"[\x00-\x20\x7f\s\ud800-\udfff]", url):
        return "it has a space or a control character (write %20 for a space)"
    if "#" in url:
        return "it has a # (write %23)"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url) or _undecodable(url):
        return "it has a % that is not followed by the two digits of a character (write %25)"
    try:
        parts = urlsplit(url)
        return _problem_of(parts)
    except ValueError:
        return "its host cannot be read (is a character of the password not percent-encoded?)"


def check(url: str, name: str) -> None:
    """Raise ValueError unless `url` is the address of a database, such as one called `name`."""
    if cause := problem(url):
        raise ValueError(
            f"must be an address such as postgresql://user@host:5432/{name}"
            + (f", but {cause}" if url else "")
        )


def address(url: str) -> str:
    """Return host:port/name of a database for messages; nothing else of the URL."""
    if problem(url):
        return "an address that cannot be read"
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or DEFAULT_PORT}{parts.path or '/'}"


def hidden(value: str) -> str:
    """Return the scheme of an address, and of any other value nothing."""
    scheme = _SCHEME.match(value)
    return f"{scheme[0] if scheme else ''}***"


def canonical_netloc(parts: SplitResult) -> str:
    """Return user, password, host and port with every character encoded that must be."""
    userinfo, at, host = parts.netloc.rpartition("@")
    encoded = ":".join(quote(unquote(part), safe="") for part in userinfo.split(":", 1))
    return f"{encoded}{at}{host}"


def without_secrets(text: str, url: str) -> str:
    """Return `text` of another program without `url`, its user information and its query."""
    parts = urlsplit(url)
    userinfo = parts.netloc.rpartition("@")[0]
    password = userinfo.partition(":")[2]
    options = [value for _, value in parse_qsl(parts.query)]
    secrets = {url, userinfo, password, unquote(password), quote(unquote(password), safe="")}
    secrets |= {value for value in options if value not in SSL_MODES}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _undecodable(url: str) -> bool:
    try:
        return "\0" in unquote(url, errors="strict")
    except UnicodeDecodeError:
        return True


def _problem_of(parts: SplitResult) -> str:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.path or "@" in parts.query:
        return "a character of its user or password is not percent-encoded (write %2F %3F %40)"
    if "," in parts.netloc.rpartition("@")[2]:
        return "it names more than one host"
    if not parts.hostname and not options.get("host"):
        return "it names no host"
    if parts.hostname:
        # Names that no resolver takes; ValueError too.
        parts.hostname.encode("idna")
    try:
        if parts.port == 0:
            return "its port is not from 1 to 65535"
    except ValueError:
        return "its port is not from 1 to 65535"
    name = parts.path.removeprefix("/") or options.get("dbname") or options.get("database") or ""
    if not name or "/" in name:
        return "it names no database after its host"
    if options.get("sslmode", "prefer") not in SSL_MODES:
        return f"its sslmode is none of {', '.join(SSL_MODES)}"
    return ""
