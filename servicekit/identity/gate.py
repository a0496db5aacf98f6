"""Decides at the start of each RPC who calls, and whether that caller may.

A process tells its callers apart in one way: by their certificates, by their tokens, or not at all;
then everybody is `local` and may do everything, which is why that is served on loopback only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from servicekit.caller import LOCAL, NOBODY, Identity
from servicekit.errors import PERMISSION_DENIED, UNAUTHENTICATED, ApiError
from servicekit.identity import identities
from servicekit.identity.access import Access, AccessRefused
from servicekit.identity.identities import Identities
from servicekit.identity.limits import Limits
from servicekit.identity.trail import MAX_PENDING, AccessChange, compare
from servicekit.settings import ServerSettings, SettingsError
from servicekit.watched_file import WatchedFiles

RELOAD_S: Final = 1.0
"""How often the file of identities is looked at, while calls arrive."""

BEARER: Final = "bearer "
MAX_TOKEN_BYTES: Final = 1024
HTTP: Final = "http/"
"""What the name of a path begins with, as that of a method with its service."""

log = structlog.get_logger(__name__)


Names = Callable[[], Sequence[str]]
"""Reads the URI and DNS names of the caller's certificate."""


class Mode(Protocol):
    """One way to tell callers apart; `by` says in the log how."""

    by: str

    def identify(self, names: Names, metadata: Mapping[str, Any]) -> Identity:
        """Return who calls, by the names of the certificate or by the metadata.

        Raises AccessRefused with UNAUTHENTICATED.
        """


class Unidentified:
    """Everybody is `local`, or whom the metadata x-caller names, if that is trusted."""

    by = "everybody may do everything"

    def __init__(self, header: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        self._header = header

    def identify(self, _names: Names, metadata: Mapping[str, Any]) -> Identity:
        """Return an identity with every role."""
        name = self._header(metadata) if self._header is not None else ""
        return replace(LOCAL, name=name) if name else LOCAL


class KnownCallers:
    """The identities of a file, which is read again when it changes; `changes` are those that were
    not taken from there yet, its first content included.
    """

    def __init__(
        self,
        path: Path,
        *,
        setting: str,
        tokens: bool,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file. Raises SettingsError in one line."""
        self._path = path
        self._setting = setting
        self._tokens = tokens
        self._now_s = now_s
        self._files = WatchedFiles(path)
        self._current = identities.read(path, setting=setting, tokens=tokens)
        self.changes = deque([compare(None, self._current)], MAX_PENDING)
        self._look_s = now_s() + RELOAD_S

    @property
    def current(self) -> Identities:
        """The identities as of at most a second ago; the last good ones if the file is bad."""
        now_s = self._now_s()
        if now_s >= self._look_s:
            self._look_s = now_s + RELOAD_S
            if self._files.changed():
                self._reload()
        return self._current

    def _reload(self) -> None:
        try:
            found = identities.read(self._path, setting=self._setting, tokens=self._tokens)
        except SettingsError as error:
            log.error("identities_reload_failed", reason=str(error))
            return
        change = compare(self._current, found)
        self.changes.append(change)
        log.warning(
            "identities_reloaded",
            added=list(change.added),
            removed=list(change.removed),
            changed=list(change.changed),
            **({"left_out": change.left_out} if change.left_out else {}),
        )
        self._current = found


class ByCertificate:
    """Callers are known by a URI or DNS name of their certificate."""

    by = "certificates"

    def __init__(self, callers: KnownCallers) -> None:
        self._callers = callers

    def identify(self, names: Names, _metadata: Mapping[str, Any]) -> Identity:
        """Return the identity of the first name that is known."""
        known = self._callers.current.by_name
        given = names()
        for name in given:
            if name in known:
                return known[name]
        why = "its names are not known" if given else "it has no URI or DNS name"
        raise AccessRefused(UNAUTHENTICATED, f"the certificate is not accepted: {why}")


class ByToken:
    """Callers are known by the metadata `authorization: Bearer TOKEN`."""

    by = "tokens"

    def __init__(self, callers: KnownCallers) -> None:
        self._callers = callers

    def identify(self, _names: Names, metadata: Mapping[str, Any]) -> Identity:
        """Return the identity whose token it is."""
        given = metadata.get("authorization")
        if not isinstance(given, str) or given[: len(BEARER)].lower() != BEARER:
            raise AccessRefused(UNAUTHENTICATED, "authorization must be Bearer and a token")
        token = given[len(BEARER) :]
        found = None if len(token) > MAX_TOKEN_BYTES else self._callers.current.of_token(token)
        if found is None:
            raise AccessRefused(UNAUTHENTICATED, "the token is not known")
        return found


@dataclass(frozen=True, slots=True)
class Admission:
    """Who calls; `refusal` says why the call may not be made."""

    identity: Identity
    refusal: ApiError | None = None
    counted: bool = False


class Gate:
    """The mode, the table of roles and the limits of one server.

    `callers` are those that the mode tells apart; None where it does not.
    """

    def __init__(
        self,
        mode: Mode,
        access: Access,
        *,
        limits: Limits | None = None,
        callers: KnownCallers | None = None,
    ) -> None:
        self.mode = mode
        self._callers = callers
        self._anonymous = deque([compare(None, None)])
        self.access = access
        self.enforced = not isinstance(mode, Unidentified)
        self._limits = limits or Limits()

    def admit(self, method: str, names: Names, metadata: Mapping[str, Any]) -> Admission:
        """Decide on one call, such as of `booking.v1.BookingService/StartBooking`; `leave` ends it.

        Raises nothing: a refusal is part of what it returns.
        """
        try:
            identity = self.mode.identify(names, metadata)
        except AccessRefused as unknown:
            return Admission(NOBODY, None if self.access.open(method) else unknown)
        if not self.enforced or self.access.open(method):
            return Admission(identity)
        if not self.access.allows(identity.roles, method):
            rpc = method.rpartition("/")[2]
            if method.startswith(HTTP):
                rpc = method.removeprefix(HTTP)
            denied = AccessRefused(
                PERMISSION_DENIED,
                f"{identity.name} may not call {rpc}",
                metadata={"method": method, "identity": identity.name},
            )
            return Admission(identity, denied)
        if identity.max_concurrent is None and identity.max_per_second is None:
            return Admission(identity)
        beyond = self._limits.enter(identity)
        return Admission(identity, beyond, counted=beyond is None)

    def take_changes(self) -> list[AccessChange]:
        """Look at the file of identities, and return what changed since this was called last; at
        first what the server began with.
        """
        changes = self._anonymous
        if self._callers is not None:
            _ = self._callers.current
            changes = self._callers.changes
        taken = list(changes)
        changes.clear()
        return taken

    def leave(self, admission: Admission) -> None:
        """Note the end of a call that was admitted."""
        if admission.counted:
            self._limits.leave(admission.identity)


def gate(
    settings: ServerSettings, access: Access, header: Callable[[Mapping[str, Any]], str]
) -> Gate:
    """Make the gate that the settings ask for; `header` reads x-caller from metadata.

    Raises SettingsError in one line when the file of identities is not good.
    """
    path = settings.identities
    if path is None:
        return Gate(Unidentified(header if settings.trust_caller_header else None), access)
    setting = f"{settings.model_config.get('env_prefix', '')}IDENTITIES"
    by_certificate = settings.tls_client_ca is not None
    callers = KnownCallers(path, setting=setting, tokens=not by_certificate)
    mode = ByCertificate(callers) if by_certificate else ByToken(callers)
    return Gate(mode, access, callers=callers)


EVERYBODY: Final = Gate(Unidentified(), Access({}))
"""Everybody may do everything."""
