"""The command line: python -m metrics_service serve, check-config, deploy and others (--help)."""

from __future__ import annotations

from metrics_service.cli.commands import app

if __name__ == "__main__":
    app(prog_name="python -m metrics_service")
