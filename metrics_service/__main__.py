"""The command line: python -m metrics_service, which is also `farehold`."""

from __future__ import annotations

import sys

from servicekit.start import INTERRUPTED


def farehold() -> None:
    """Run a command, under the name that it was called by."""
    try:
        # It takes half a second, in which Ctrl-C would end with a traceback.
        from metrics_service.cli.commands import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    farehold()
