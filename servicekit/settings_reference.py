"""Writes the reference of settings from the classes that read them, so that it is complete."""

from __future__ import annotations

import sys
from typing import Final

from pydantic.fields import FieldInfo

from servicekit.settings import ServerSettings, Settings, allowed, variables
from servicekit.titled import load_titled

HEAD: Final = """\
# Settings

Written by `make docs` from the settings classes. Every setting is an environment variable; all but
the databases have a working default, and `make run` sets those two. A bad value, or a variable with
one of these prefixes that is not listed here, stops the start with one line. `check-config` checks
without starting.
"""


def reference(services: dict[str, type[Settings]]) -> str:
    """Return the page: per service, by title, a table of variable, default, values and meaning."""
    sections = [HEAD]
    for title, settings in services.items():
        rows = ["| variable | default | value | meaning |", "|---|---|---|---|"]
        own = sorted(settings.model_fields.items(), key=lambda item: _inherited(item[0]))
        rows += [_row(settings, field, info) for field, info in own]
        sections.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(sections)


def main() -> int:
    """Print the page for `TITLE=module:Class` arguments."""
    sys.stdout.write(reference(load_titled(sys.argv[1:])))
    return 0


def _inherited(field: str) -> bool:
    return field in ServerSettings.model_fields


def _row(settings: type[Settings], field: str, info: FieldInfo) -> str:
    names = " or ".join(f"`{name}`" for name in variables(settings, field, info))
    cells = (names, _default(info), allowed(info), info.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    value = info.default
    # An empty default that is validated is always refused: the variable must be set.
    if info.is_required() or (info.validate_default and value == ""):
        return "must be set"
    if value is None or value == "":
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(main())
