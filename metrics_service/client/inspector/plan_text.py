"""Formats a plan as text: the nodes with their estimates, and under each its conditions without
literals. It reads the JSON form, in which a line break inside a literal cannot start a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from metrics_service.client.queries.normalise import masked

MAX_PLAN_BYTES: Final = 4096
"""The longest text of a plan, in UTF-8 bytes; it is cut after a line."""

MAX_DOCUMENT_CHARS: Final = 256 * 1024
"""Longer documents, such as those with a thousand partitions, are not read."""

CUT: Final = "..."


def plan_text(document: str) -> str:
    """Format the answer of EXPLAIN (FORMAT JSON). ValueError if it is too long or not a plan."""
    if len(document) > MAX_DOCUMENT_CHARS:
        raise ValueError("the plan is too long")
    (explained,) = json.loads(document)
    kept: list[str] = []
    size = len(CUT)
    for line in _lines(explained["Plan"], 0):
        size += len(line.encode("utf-8", "replace")) + 1
        if size > MAX_PLAN_BYTES:
            kept.append(CUT)
            break
        kept.append(line)
    return "\n".join(kept)


# Part of the node's own line, or omitted; the rest is listed below it.
_TITLE: Final = frozenset(
    {"Node Type", "Operation", "Join Type", "Index Name", "Relation Name", "Alias", "Schema"}
    | {"Function Name", "CTE Name", "Startup Cost", "Total Cost", "Plan Rows", "Plan Width"}
    | {"Plans", "Parent Relationship", "Subplan Name", "Scan Direction", "Partial Mode"}
)


def _lines(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "      " * depth
    if "Subplan Name" in node:
        yield f"{indent}{_name(node['Subplan Name'])}"
    yield f"{indent}{'->  ' if depth else ''}{_title(node)}"
    for key, value in node.items():
        if key in _TITLE or isinstance(value, bool):
            continue
        listed = value if isinstance(value, list) else [value]
        if all(isinstance(item, str) for item in listed):
            yield f"{indent}      {key}: {', '.join(masked(item) for item in listed)}"
        elif isinstance(value, int):
            yield f"{indent}      {key}: {value}"
    for child in node.get("Plans", ()):
        yield from _lines(child, depth + 1)


def _title(node: Mapping[str, Any]) -> str:
    words = [node["Node Type"]]
    if "Operation" in node:
        words.append(node["Operation"])
    if node.get("Join Type", "Inner") != "Inner":
        words.append(f"{node['Join Type']} Join")
    if "Index Name" in node:
        words.append(f"using {_name(node['Index Name'])}")
    source = node.get("Relation Name") or node.get("CTE Name") or node.get("Function Name")
    if source:
        words.append(f"on {_name(source)}")
        if node.get("Alias", source) != source:
            words.append(_name(node["Alias"]))
    return (
        f"{' '.join(words)}  (cost={node['Startup Cost']:.2f}..{node['Total Cost']:.2f}"
        f" rows={node['Plan Rows']:.0f} width={node['Plan Width']:.0f})"
    )


def _name(text: str) -> str:
    """Put an identifier on one line."""
    return " ".join(text.split())
