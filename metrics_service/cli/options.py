"""The options that many commands share. They may stand before the command's name too: those after
it go first.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from typing import Annotated, Any, Final, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.write import Form
from metrics_service.cli.periods import ALL, Against, PeriodError, Window, duration
from servicekit.channels import ClientFiles
from servicekit.client_settings import ClientSettings, checked
from servicekit.settings import SettingsError
from servicekit.start import fail

DEFAULT_WINDOW: Final = timedelta(hours=1)
MIN_REPEAT_S: Final = 0.5
LOCAL: Final = "local"

_PANEL: Final = "Shared options"
_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY

ASK: Final = ("target",)
PRINT: Final = ("output", "tz", "no_color")
REPEAT: Final = ("watch",)
PERIOD: Final = ("window", "ended")
COMPARE: Final = ("vs",)

_SHARED: Final[Mapping[str, Any]] = {
    "target": Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="By default FAREHOLD_TARGET, or METRICS_PORT of this machine.",
            rich_help_panel=_PANEL,
        ),
    ],
    "output": Annotated[
        Form | None,
        typer.Option("--output", "-o", help="By default table.", rich_help_panel=_PANEL),
    ],
    "window": Annotated[
        str | None,
        typer.Option(
            metavar="15m|1h|24h|7d|30d|all", help="By default 1h.", rich_help_panel=_PANEL
        ),
    ],
    "ended": Annotated[
        str | None,
        typer.Option(metavar="24h", help="How long ago the window ended.", rich_help_panel=_PANEL),
    ],
    "vs": Annotated[
        Against | None,
        typer.Option(
            help="Compare with the period before, or a week before.", rich_help_panel=_PANEL
        ),
    ],
    "tz": Annotated[
        str | None,
        typer.Option(
            metavar="utc|local|Europe/Lisbon", help="By default UTC.", rich_help_panel=_PANEL
        ),
    ],
    "no_color": Annotated[
        bool | None,
        typer.Option("--no-color", help="As NO_COLOR does.", rich_help_panel=_PANEL),
    ],
    "watch": Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=MIN_REPEAT_S, help="Ask again so often.", rich_help_panel=_PANEL
        ),
    ],
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the shared options say, each with its default; `target` is "host:port"."""

    target: str
    files: ClientFiles
    form: Form
    window: Window
    against: Against | None
    clock: Clock
    no_color: bool
    repeat_s: float | None
    given: frozenset[str]
    """The names of those that were given."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Read the options and the settings. Raises typer.BadParameter and SettingsError."""
        settings = ClientSettings.load()
        port = os.environ.get("METRICS_PORT", "50052")
        target = given.get("target") or settings.target or f"127.0.0.1:{port}"
        length, ended = given.get("window"), given.get("ended")
        return cls(
            target=target,
            files=checked(settings.files),
            form=given.get("output", Form.TABLE),
            window=Window(
                _window(length),
                timedelta(0) if ended is None else _duration("--ended", ended),
            ),
            against=given.get("vs"),
            clock=Clock(_zone(given.get("tz", "utc"))),
            no_color=given.get("no_color", False),
            repeat_s=given.get("watch"),
            given=frozenset(given),
        )


def shared(*groups: tuple[str, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these groups, as its first argument: its Options."""
    names = [name for group in groups for name in group]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        def call(context: typer.Context, **values: Any) -> None:
            after = {name: values.pop(name) for name in names}
            command(_options(context, names, after), **values)

        return _named(call, command, own, names)

    return decorate


def group(*groups: tuple[str, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a group that is a command too the options of these groups, for its own commands as well:
    where one of them is called, the group itself is not.
    """
    names = [name for each in groups for name in each]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        def call(context: typer.Context, **values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            if context.invoked_subcommand is not None:
                before(context, given)
            else:
                command(_options(context, names, given), **values)

        return _named(call, command, own, names)

    return decorate


def alone(command: Callable[..., None]) -> Callable[..., None]:
    """Refuse the shared options for a command that has none of them."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())

    def call(context: typer.Context, **values: Any) -> None:
        _refuse(context, [])
        command(**values)

    return _named(call, command, own, [])


def before(context: typer.Context, given: Mapping[str, Any]) -> None:
    """Keep the options that stand before the command's name."""
    context.obj = {**(context.obj or {}), **_present(given)}


def keeping(command: Callable[..., None]) -> Callable[..., None]:
    """Give a group all shared options, for the commands that it has."""

    def call(context: typer.Context, **values: Any) -> None:
        before(context, values)

    return _named(call, command, [], list(_SHARED))


def _named(
    call: Callable[..., None],
    command: Callable[..., None],
    own: list[inspect.Parameter],
    names: list[str],
) -> Callable[..., None]:
    """Return the function with the signature that typer reads."""
    context = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
    options = [
        inspect.Parameter(name, _KEYWORD, default=None, annotation=_SHARED[name]) for name in names
    ]
    own = [each.replace(kind=_KEYWORD) for each in own]
    call.__signature__ = inspect.Signature([context, *own, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _options(context: typer.Context, names: list[str], after: Mapping[str, Any]) -> Options:
    _refuse(context, names)
    try:
        return Options.of({**(context.obj or {}), **_present(after)})
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def _refuse(context: typer.Context, names: list[str]) -> None:
    """Raise typer.BadParameter for an option before the command that it does not have."""
    for name in context.obj or {}:
        if name not in names:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"{option} has no meaning for {context.info_name}")


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _window(words: str | None) -> timedelta | None:
    if words is None:
        return DEFAULT_WINDOW
    return None if words == ALL else _duration("--window", words)


def _duration(option: str, words: str) -> timedelta:
    try:
        return duration(words)
    except PeriodError as error:
        bad(option, str(error))


def _zone(name: str) -> tzinfo | None:
    if name.lower() == "utc":
        return UTC
    if name == LOCAL:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        bad("--tz", "is not a time zone that this machine knows")


def bad(option: str, why: str) -> NoReturn:
    """Refuse an option. Raises typer.BadParameter."""
    raise typer.BadParameter(why, param_hint=f"'{option}'")
