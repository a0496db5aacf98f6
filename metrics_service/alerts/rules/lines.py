"""Finds the lines of a rule file: tomllib says where it is not TOML, not where a value stands."""

from __future__ import annotations

import re
from typing import Final

_RULE: Final = re.compile(r"^\s*\[\[\s*rule\s*\]\]")
_KEY: Final = re.compile(r"""^\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")


class Lines:
    """The lines, from 1, of the rules of a file and of their keys."""

    def __init__(self, text: str) -> None:
        self._rules: list[int] = []
        self._keys: list[dict[str, int]] = [{}]
        inside = ""
        for number, line in enumerate(text.splitlines(), 1):
            if not inside and _RULE.match(line):
                self._rules.append(number)
                self._keys.append({})
            elif not inside and (found := _KEY.match(line)):
                self._keys[-1].setdefault(found[1], number)
            # Within a text of several lines nothing is a key.
            for quotes in ('"""', "'''"):
                if inside in ("", quotes) and line.count(quotes) % 2:
                    inside = "" if inside else quotes

    def of_top(self, key: str) -> int:
        """Return the line of a key outside of the rules; 0 if it is not found."""
        return self._keys[0].get(key, 0)

    def of(self, rule: int, key: str = "") -> int:
        """Return the line of a key of a rule, counted from 0; of the rule if it is not found."""
        if rule >= len(self._rules):
            return 0
        return self._keys[rule + 1].get(key, self._rules[rule])
