"""python -m booking_service: serves, checks the settings, and keeps the database in order.

What can be put right at the keyboard is one line and an exit status: 2 for settings, 1 for the
rest; never a traceback.
"""

from __future__ import annotations

import typer

from booking_service.admin import cli
from booking_service.config import BookingSettings
from booking_service.server import serve as serve_until
from servicekit import logs
from servicekit.settings import SettingsError
from servicekit.start import fail, run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli.app)


@app.command()
def serve() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    settings = _settings()
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(run(lambda stop: serve_until(settings, stop), uvloop=settings.uvloop))


@app.command("check-config")
def check_config() -> None:
    """Check the settings without starting anything."""
    settings = _settings()
    print(f"settings are good; would serve on {settings.host}:{settings.port}")


def main() -> None:
    app(prog_name="python -m booking_service")


def _settings() -> BookingSettings:
    try:
        return BookingSettings.load()
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


if __name__ == "__main__":
    main()
