"""Normalises a statement to a text and a fingerprint. No literal of the statement remains in the
text or in an error, and the work is bounded for statements of any length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from metrics_service.client.queries.record import MAX_TEXT_BYTES, fingerprint_of

try:
    import postgast
except ImportError:  # the extra is not installed: only lexical masking
    postgast = None

MAX_PARSED_CHARS: Final = 16_384
"""Longer statements are not parsed (a megabyte would take 13 ms); only their start is masked."""

MAX_COMMENTS: Final = 64
"""A statement that opens more comments is not parsed: nested ones take quadratic time."""

MAX_OVERLONG_CHARS: Final = 1024
"""How much of an overlong statement is kept; it is masked at each execution and must be cheap."""


class Normalised(NamedTuple):
    """operation is the lower-case command, such as "select"; text is at most MAX_TEXT_BYTES."""

    fingerprint: int
    operation: str
    text: str


def normalise(statement: str) -> Normalised:
    """Normalise a statement; never raises.

    Literals become placeholders and comments are removed. Of statements other than SELECT, INSERT,
    UPDATE, DELETE, MERGE and COPY only the command is kept.
    """
    try:
        if postgast is not None and _is_parsed(statement):
            parsed = _parsed(statement)
            if parsed is not None:
                return parsed
        return _lexical(statement)
    except Exception:
        # Neither the statement nor the parser's message about it may leave this function.
        return UNREADABLE


def masked(text: str) -> str:
    """Mask the literals of any text in the lexical form of SQL, such as a condition in a plan."""
    return "".join((" " if spaced else "") + word for spaced, word in _words(text))


UNREADABLE: Final = Normalised(fingerprint_of("unreadable"), "unreadable", "")

_COMMANDS: Final = frozenset(
    {"abort", "alter", "analyze", "begin", "call", "checkpoint", "close"}
    | {"cluster", "comment", "commit", "copy", "create", "deallocate", "declare"}
    | {"delete", "discard", "do", "drop", "end", "execute", "explain"}
    | {"fetch", "grant", "import", "insert", "listen", "load", "lock"}
    | {"merge", "move", "notify", "prepare", "reassign", "refresh", "reindex"}
    | {"release", "reset", "revoke", "rollback", "savepoint", "security", "select"}
    | {"set", "show", "start", "truncate", "unlisten", "update", "vacuum"}
)
_KEPT: Final = frozenset({"select", "insert", "update", "delete", "merge", "copy"})
_SELECTS: Final = frozenset({"with", "values", "table"})
_OBJECT_COMMANDS: Final = frozenset({"create", "alter", "drop", "comment"})
_MODIFIERS: Final = frozenset(
    {"or", "replace", "unique", "temp", "temporary", "unlogged", "global", "local", "recursive"}
    | {"materialized", "foreign", "event", "on", "if", "not", "exists"}
)


def _is_parsed(statement: str) -> bool:
    """Whether parsing is cheap and the statement has the same meaning for every server."""
    if len(statement) > MAX_PARSED_CHARS or statement.count("/*") > MAX_COMMENTS:
        return False
    return "\\'" not in statement or not any(
        kind == "string" and _has_two_ends(word) for _, kind, word in _tokens(statement)
    )


def _parsed(statement: str) -> Normalised | None:
    """Normalise by PostgreSQL's own parser; None if it cannot parse."""
    try:
        text: str = postgast.normalize(statement)
        fingerprint: int = postgast.fingerprint(statement).fingerprint
        tokens: Any = postgast.scan(text).tokens
    except postgast.PgQueryError:
        return None
    kinds = postgast.pg_query_pb2.Token
    literals = {
        kinds.SCONST,
        kinds.USCONST,
        kinds.ICONST,
        kinds.FCONST,
        kinds.BCONST,
        kinds.XCONST,
    }
    comments = {kinds.SQL_COMMENT, kinds.C_COMMENT}
    raw = text.encode()
    words: list[tuple[bool, str]] = []
    end = 0
    for token in tokens:
        spaced = bool(words) and (words[-1][1] == "" or token.start > end)
        end = token.end
        if token.token in comments:
            # A comment counts as a blank.
            words.append((False, ""))
        elif token.token in literals:
            words.append((spaced, "?"))
        else:
            words.append((spaced, raw[token.start : token.end].decode("utf-8", "replace")))
        if len(words) > MAX_TEXT_BYTES:
            break
    operation, text, whole = _compose(words)
    return Normalised(fingerprint if whole else fingerprint_of(f"tag:{text}"), operation, text)


def _lexical(statement: str) -> Normalised:
    """Normalise without a parser, by the lexical rules of PostgreSQL."""
    kept = MAX_TEXT_BYTES if len(statement) <= MAX_PARSED_CHARS else MAX_OVERLONG_CHARS
    words = [*_words(statement[:kept])]
    operation, text, _ = _compose(words)
    shape = re.sub(r"\$\d+", "?", text.lower())
    shape = re.sub(r"\(\s*\?(?:\s*,\s*\?)*\s*(?:\)|$)", "(?)", shape)
    shape = re.sub(r"\(\?\)(?:\s*,\s*\(\?\))+", "(?)", shape)
    return Normalised(fingerprint_of(f"lexical:{shape}"), operation, text)


def _compose(words: list[tuple[bool, str]]) -> tuple[str, str, bool]:
    """Return the command of the first statement, the text, in which some statements are reduced to
    their command, and whether every statement was kept whole.
    """
    operation = ""
    whole = True
    parts: list[str] = []
    for statement in _statements(words):
        command, tag = _command(statement)
        operation = operation or command
        if command in _KEPT:
            parts.append("".join((" " if spaced else "") + word for spaced, word in statement))
        else:
            whole = False
            parts.append(tag)
    text = "; ".join(part.strip() for part in parts)
    return operation or "empty", _truncate(text), whole


def _statements(words: list[tuple[bool, str]]) -> Iterator[list[tuple[bool, str]]]:
    statement: list[tuple[bool, str]] = []
    for spaced, word in words:
        if word == ";":
            if statement:
                yield statement
            statement = []
        elif word:
            statement.append((spaced, word))
    if statement:
        yield statement


def _command(statement: list[tuple[bool, str]]) -> tuple[str, str]:
    """Return ("select", "SELECT") or, for definitions, ("create", "CREATE INDEX")."""
    first = statement[0][1].lower()
    if first in _SELECTS or first[0] == "(":
        return _main_command(statement), "SELECT"
    if first not in _COMMANDS:
        # Not SQL: it may be anything.
        return "unreadable", "?"
    if first in _OBJECT_COMMANDS:
        for _, word in statement[1:5]:
            if word.isalpha() and word.lower() not in _MODIFIERS:
                return first, f"{first.upper()} {word.upper()}"
    return first, first.upper()


def _main_command(statement: list[tuple[bool, str]]) -> str:
    """Return the main command of a WITH: the first command outside parentheses."""
    depth = 0
    for _, word in statement:
        depth += word.count("(") - word.count(")")
        if depth == 0 and word.lower() in _KEPT:
            return word.lower()
    return "select"


def _truncate(text: str) -> str:
    """Cut the text to MAX_TEXT_BYTES of UTF-8, between characters."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= MAX_TEXT_BYTES:
        return raw.decode()
    return raw[: MAX_TEXT_BYTES - 3].decode("utf-8", "ignore") + "..."


# As in PostgreSQL, every character that is not ASCII is a letter.
_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\n\r\f\v]+)
    | (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<string>[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)
        | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
    | (?P<dollar>\$(?:[a-zA-Z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
    | (?P<param>\$[0-9]+)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[a-zA-Z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    | (?P<number>\.?\d(?:[eE][+-]?\d|[\w.])*)
    | (?P<other>[(),=*+]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


def _words(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the tokens with literals masked, each with whether a blank precedes it."""
    for spaced, kind, word in _tokens(text):
        if kind == "string" and _has_two_ends(word):
            # Everything after it may belong to it.
            yield spaced, "?"
            return
        unclosed = kind == "quoted" and (len(word) < 2 or not word.endswith('"'))
        yield spaced, "?" if unclosed or kind in ("string", "dollar", "number") else word


def _has_two_ends(string: str) -> bool:
    """Whether its end depends on standard_conforming_strings."""
    return "\\'" in string and string[0] not in "eE"


def _tokens(text: str) -> Iterator[tuple[bool, str, str]]:
    """Yield (whether a blank precedes it, its kind, its text) of each token except comments; of
    dollar quotes only the opening.
    """
    position = 0
    spaced = False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return
        position = match.end()
        kind = match.lastgroup or "other"
        if kind in ("space", "line"):
            spaced = True
            continue
        if kind == "block":
            position = _end_of_block(text, position)
            spaced = True
            continue
        word = match.group()
        if kind == "dollar":
            closing = text.find(word, position)
            position = len(text) if closing < 0 else closing + len(word)
        yield spaced, kind, word
        spaced = False


def _end_of_block(text: str, position: int) -> int:
    """Return where a comment, which may nest, ends: the end of the text if it is not closed."""
    depth = 1
    while depth:
        match = _BLOCK.search(text, position)
        if match is None:
            return len(text)
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return position
