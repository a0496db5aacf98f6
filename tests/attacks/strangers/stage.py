"""A pair that knows its callers, on databases of its own, and what tries to call it: strangers, and
callers with any role.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import trustme

from protos.tracking.v1 import tracking_pb2
from servicekit.channels import PLAINTEXT, ClientFiles
from tests.attacks.processes import World
from tests.attacks.strike import ANSWER_S, OWN_CONNECTION, Tally, code_of
from tests.pair.real_pair import ROOT, Pair
from tests.servicekit.identity.certificates import Folder, hashed

DOMAIN: Final = "example.test"
# Who has each role; kiosk is another one with that of desk.
ROLES: Final = {
    "desk": "service",
    "kiosk": "service",
    "till": "payment",
    "ops": "ops",
    "board": "monitor",
    "reviews": "producer",
}
_PRODUCERS: Final = {
    "booking": ("booking_service", '["facts", "telemetry"]'),
    "reviews": ("reviews", '["telemetry"]'),
}
KNOWN: Final = (*ROLES, "booking")
UNREACHED, UNKNOWN = "UNAVAILABLE", "UNAUTHENTICATED"
TELEMETRY: Final = tracking_pb2.LANE_TELEMETRY


class Stage:
    """The pair, whose callers have certificates, or tokens."""

    def __init__(self, world: World, folder: Path, tally: Tally, *, tokens: bool) -> None:
        self.tally = tally
        self.tokens = tokens
        self.files = Folder(folder / "tls")
        self._world = world
        self._name = folder.name.replace("-", "_").lower()
        if tokens:
            for name in (*KNOWN, "forged"):
                self._token(name, f"the token of {name}")
            self._token("cut", "the token of op")
            # What an entry of the file of callers shows of a token.
            self._token("hash", hashed("the token of ops"))
        else:
            self._issue()
        self.files.write("callers.toml", "".join(self._entry(name) for name in KNOWN))
        dsns = {kind: world.server.create_database(f"{self._name}_{kind}") for kind in _KINDS}
        for kind in _KINDS:
            world.server.migrate(f"{self._name}_{kind}", ROOT / "migrations" / kind)
        self.pair = Pair(
            dsns["booking"], dsns["metrics"], folder, self._settings(), files=self.known("ops")
        )

    def known(self, name: str) -> ClientFiles:
        """What a caller has that the pair knows."""
        if self.tokens:
            return self.files.client(token=self.files.path / f"{name}.token")
        return self.files.client(name)

    def strangers(self) -> dict[str, tuple[ClientFiles, str]]:
        """What strangers have, by who they are, and the code of the answer that each must get."""
        files = self.files
        if self.tokens:
            forged = {name: (self.known(name), UNKNOWN) for name in ("forged", "cut", "hash")}
            return {"without a token": (files.client(), UNKNOWN), **forged, **_PLAIN}
        return {
            "without a certificate": (files.client(), UNREACHED),
            "of another authority": (files.client("foreign"), UNREACHED),
            "whose certificate has no name but its subject": (files.client("subject"), UNKNOWN),
            "that nobody has heard of": (files.client("unheard"), UNKNOWN),
            **_PLAIN,
        }

    def http(self, files: ClientFiles, path: str) -> int:
        """The status of a GET with what a caller has; 0 where none came."""
        context, token = files.context(), files.bearer()
        scheme = "http" if context is None else "https"
        request = urllib.request.Request(f"{scheme}://{self.pair.http}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=context) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, http.client.HTTPException):
            return 0

    async def query(self, kind: str, query: str, *arguments: Any) -> list[Any]:
        """Ask one of the pair's databases."""
        connection = await asyncpg.connect(self._world.server.dsn(f"{self._name}_{kind}"))
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    def end(self) -> None:
        self.pair.stop()
        for kind in _KINDS:
            self._world.server.drop_database(f"{self._name}_{kind}")

    def _entry(self, name: str) -> str:
        lines = [f'["{name}.{DOMAIN}"]', f'roles = ["{ROLES.get(name, "producer")}"]']
        if name in _PRODUCERS:
            service, lanes = _PRODUCERS[name]
            lines += [f'services = ["{service}"]', f"lanes = {lanes}"]
        if self.tokens:
            lines.append(f'tokens_sha256 = ["{hashed(f"the token of {name}")}"]')
        return "\n".join([*lines, "", ""])

    def _issue(self) -> None:
        for name in (*KNOWN, "unheard"):
            self.files.issue(name, f"{name}.{DOMAIN}")
        self.files.issue("subject", common_name=f"ops.{DOMAIN}")
        own, self.files.authority = self.files.authority, trustme.CA()
        self.files.issue("foreign", f"ops.{DOMAIN}")
        self.files.authority = own

    def _token(self, name: str, token: str) -> None:
        self.files.write(f"{name}.token", token)

    def _settings(self) -> dict[str, str]:
        own = {"TLS_CA": "ca.pem"} | (
            {"TOKEN_FILE": "booking.token"}
            if self.tokens
            else {"TLS_CERT": "booking.pem", "TLS_KEY": "booking.key"}
        )
        return {
            **{f"BOOKING_METRICS_{name}": str(self.files.path / at) for name, at in own.items()},
            **self.files.environ("BOOKING_", certificates=not self.tokens),
            **self.files.environ("METRICS_", certificates=not self.tokens),
        }


_KINDS: Final = ("booking", "metrics")
_PLAIN: Final = {"in plaintext": (PLAINTEXT, UNREACHED)}


def staged(
    *acts: Callable[[Stage], Awaitable[None]], tokens: bool = False
) -> Callable[[World], Tally]:
    """A scenario on such a pair: what is done to it, in this order."""

    def scenario(world: World) -> Tally:
        tally = Tally()
        with tempfile.TemporaryDirectory(prefix="strangers-") as folder:
            stage = Stage(world, Path(folder), tally, tokens=tokens)
            try:
                for service in ("metrics_service", "booking_service"):
                    stage.pair.start(service)
                asyncio.run(_play(stage, acts))
            except Exception as error:
                tally.check(False, f"{type(error).__name__}: {error}")
            finally:
                stage.end()
        return tally

    return scenario


async def _play(stage: Stage, acts: tuple[Callable[[Stage], Awaitable[None]], ...]) -> None:
    for act in acts:
        await act(stage)


class Speaker:
    """Calls by their path, with what one caller has."""

    def __init__(self, stage: Stage, files: ClientFiles) -> None:
        self._channels = {
            "booking": files.open(stage.pair.booking, OWN_CONNECTION),
            "metrics": files.open(stage.pair.metrics, OWN_CONNECTION),
        }

    async def __aenter__(self) -> Speaker:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    def channel(self, side: str) -> Any:
        return self._channels[side]

    async def code(self, path: str, request: Any, claims: tuple[tuple[str, str], ...] = ()) -> str:
        """The code of the answer to a unary call."""
        side = "booking" if path.startswith("booking.") else "metrics"
        call: Any = self._channels[side].unary_unary(f"/{path}")
        return await code_of(call(request.SerializeToString(), timeout=ANSWER_S, metadata=claims))


def digest(rows: list[Any]) -> str:
    """What tells two contents of a table apart."""
    return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()
