"""python -m booking_service serve | check-config | migrate | rollback | indexes-up | ..."""

from __future__ import annotations

from booking_service.cli.commands import app

if __name__ == "__main__":
    app(prog_name="python -m booking_service")
