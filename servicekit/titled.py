"""Loads what the writers of pages are given on their command lines."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any


def load_titled(arguments: Iterable[str]) -> dict[str, Any]:
    """Return by its title what each `TITLE=module:NAME` names."""
    found = {}
    for argument in arguments:
        title, _, path = argument.partition("=")
        module, _, name = path.partition(":")
        found[title] = getattr(import_module(module), name)
    return found
