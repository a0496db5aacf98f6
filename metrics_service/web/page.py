"""The page and its files, from the package, read once: none has a part of a request in it."""

from __future__ import annotations

import gzip
import hashlib
import re
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metrics_service.web.headers import PAGE
from servicekit.http.guard import Guard

INDEX: Final = "index.html"
GZIP: Final = re.compile(r"gzip(;q=(0?\.[0-9]*[1-9][0-9]*|1(\.0*)?))?")
TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
DEEP_LINKS: Final = ("queries", "slow", "errors", "alerts", "deployments", "journeys")
"""What the page shows at `/NAME/...`, which it reads from its address."""


class File(NamedTuple):
    """A file as it is answered, in one coding."""

    body: bytes
    media_type: str
    tag: str
    headers: dict[str, str]


class PageFiles:
    """The files of a folder, by their paths within it."""

    def __init__(self, folder: Traversable | None = None) -> None:
        folder = folder or files("metrics_service.web").joinpath("assets")
        self._files = dict(_read(folder))

    def routes(self, guard: Guard) -> list[Route]:
        """Return `/`, what the page links to, and `/assets/`."""
        index = guard.guarded(self._index, "http//")
        return [
            Route("/", index),
            *(Route(f"/{name}/{{rest:path}}", index) for name in DEEP_LINKS),
            Route("/assets/{path:path}", guard.guarded(self._asset, "http//assets/*")),
        ]

    async def _index(self, request: Request) -> Response:
        """Answer the page, whatever of it is asked for."""
        return self._answer(request, INDEX)

    async def _asset(self, request: Request) -> Response:
        """Answer one of its files."""
        return self._answer(request, request.path_params["path"])

    def _answer(self, request: Request, path: str) -> Response:
        codings = self._files.get(path)
        if codings is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        plain, packed = codings
        file = packed if _takes_gzip(request) else plain
        headers = {**PAGE, **file.headers, "ETag": file.tag}
        known = request.headers.get("if-none-match", "")
        if known == "*" or file.tag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)


def _takes_gzip(request: Request) -> bool:
    """Whether the client takes gzip, with a weight that is not 0."""
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return any(GZIP.fullmatch(coding) for coding in codings)


def _read(folder: Traversable, prefix: str = "") -> list[tuple[str, tuple[File, File]]]:
    """Return each file as it is, and packed."""
    found: list[tuple[str, tuple[File, File]]] = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _read(each, f"{prefix}{each.name}/")
        elif media_type := TYPES.get(each.name.rpartition(".")[2]):
            body = each.read_bytes()
            tag = hashlib.blake2b(body, digest_size=12).hexdigest()
            plain = File(body, media_type, f'"{tag}"', {"Vary": "Accept-Encoding"})
            packed = File(
                gzip.compress(body, mtime=0),
                media_type,
                f'"{tag}-gzip"',
                {"Vary": "Accept-Encoding", "Content-Encoding": "gzip"},
            )
            found.append((f"{prefix}{each.name}", (plain, packed)))
    return found
