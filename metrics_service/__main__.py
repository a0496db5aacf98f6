"""python -m metrics_service serve | check-config | correct-time | watch | health | metrics"""

from __future__ import annotations

from metrics_service.cli.commands import app

if __name__ == "__main__":
    app(prog_name="python -m metrics_service")
