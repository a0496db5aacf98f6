"""The command line of metrics_service, `farehold`: a failure is one line on standard error and an
exit status, never a traceback.

0 is good, 1 a bad verdict, 2 a wrong question or setting, 3 undecided, 4 no answer.
"""

from __future__ import annotations

import typer

from metrics_service.cli import history, service
from metrics_service.cli.alerts import alerts, silences
from metrics_service.cli.deploy import deploy
from metrics_service.cli.doctor.command import doctor
from metrics_service.cli.options import alone, keeping
from metrics_service.cli.views.errors import errors
from metrics_service.cli.views.funnel import funnel
from metrics_service.cli.views.journey import journey, sessions
from metrics_service.cli.views.queries import queries
from metrics_service.cli.views.series import series
from metrics_service.cli.views.slow import slow
from metrics_service.cli.views.status import status
from metrics_service.cli.watch import watch

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

_LOOK = "Look"
for command in (status, watch, funnel, errors, queries, slow, journey, sessions, series):
    app.command(rich_help_panel=_LOOK)(command)

app.command(rich_help_panel=_LOOK)(doctor)
app.add_typer(alerts.app, name="alerts", rich_help_panel=_LOOK)

_ACT = "Act, judge and export"
for groups, title in ((silences.app, "silence"), (deploy, "deploy"), (history.app, "history")):
    app.add_typer(groups, name=title, rich_help_panel=_ACT)

_PROCESS = "The service itself"
for command, name in (
    (service.serve, "serve"),
    (service.check_config, "check-config"),
    (service.correct, "correct-time"),
    (service.health, "health"),
    (service.metrics, "metrics"),
):
    app.command(name, rich_help_panel=_PROCESS)(alone(command))


@app.callback()
@keeping
def farehold() -> None:
    """Ask a running metrics_service, act on it, or run it. Shared options may stand before the
    command too.

    Exit status: 0 good, 1 a bad verdict, 2 a wrong question or setting, 3 undecided, 4 no answer.
    """
