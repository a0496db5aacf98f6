"""Whatever an application sends, its normal form takes bounded time and space and has no value."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.client.queries import normalise as module
from metrics_service.client.queries.normalise import MAX_PARSED_CHARS, normalise
from metrics_service.client.queries.record import MAX_TEXT_BYTES
from metrics_service.client.queries.statements import StatementTable
from tests.sizes import SLOWNESS

CANARY = "kanarienvogel"

# Each gives a statement that grows with n.
HOSTILE: list[Callable[[int], str]] = [
    lambda n: f"SELECT a FROM t WHERE id IN ({','.join(map(str, range(n)))})",
    lambda n: "SELECT a FROM t WHERE id IN ('0'" + f", '{CANARY}'" * n + ")",
    lambda n: "INSERT INTO t VALUES (0, '0')" + f",(1,'{CANARY}')" * n,
    lambda n: "SELECT " + "(" * n + f"'{CANARY}'" + ")" * n,
    lambda n: "SELECT " + "(" * n + f"'{CANARY}'",
    lambda n: "(" * n + f"'{CANARY}'",
    lambda n: "SELECT " + "'" * (n | 1) + CANARY,
    lambda n: "SELECT " + '"' * (n | 1) + CANARY,
    lambda n: "SELECT " + "E'\\'" * n + CANARY + "'",
    lambda n: "SELECT $tag$" + CANARY * (n // 10),
    lambda n: "SELECT " + "$a" * n + f"$'{CANARY}'",
    lambda n: "SELECT " + "".join(f"$t{i}$" for i in range(n // 4)) + CANARY,
    lambda n: "SELECT 1 " + "/*" * n + CANARY,
    lambda n: "SELECT 1 " + "/* " * n + CANARY + " */" * n,
    lambda n: "SELECT '" + CANARY + "' " + "-- x\n" * n,
    lambda n: "SELECT " + "- " * n + "1",
    lambda n: "SELECT a" + f"||'{CANARY}'" * n,
    lambda n: "SELECT " + " NOT" * n + f" '{CANARY}'",
    lambda n: "SELECT 1" + f" UNION SELECT '{CANARY}'" * n,
    lambda n: "SELECT CASE " + f"WHEN a = '{CANARY}' THEN 1 " * n + "END",
    lambda n: "SELECT 1;" * n + f"COMMENT ON TABLE t IS '{CANARY}'",
    lambda n: f"COMMENT ON TABLE t IS '{CANARY}';" * n,
    lambda n: "SELECT '" + "\\" * n + CANARY + "'",
    lambda n: "SELECT '" + "ü" * n + CANARY + "'",
    lambda n: "SELECT " + "1e" * n + CANARY[:0],
    lambda n: " " * n + f"SELECT '{CANARY}'",
]


@pytest.fixture(params=["parser", "lexical"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With PostgreSQL's parser, and as where it is not installed."""
    if request.param == "lexical":
        monkeypatch.setattr(module, "postgast", None)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("statement_of", HOSTILE)
@pytest.mark.parametrize("size", [100, 1_500, 7_000, 100_000])
def test_hostile_statements_are_masked_and_cut(
    statement_of: Callable[[int], str], size: int
) -> None:
    normal = normalise(statement_of(size))
    assert CANARY not in normal.text
    assert len(normal.text.encode()) <= MAX_TEXT_BYTES


@pytest.mark.full
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("statement_of", HOSTILE)
def test_time_grows_no_faster_than_the_statement(statement_of: Callable[[int], str]) -> None:
    # Of the lengths that are parsed at all. Four times as much may take four times as long; ten
    # allow for a noisy machine, and not for the sixteen-fold of a square.
    base = max(1, 1000 * 3000 // len(statement_of(1000)))
    assert len(statement_of(4 * base)) < MAX_PARSED_CHARS
    assert _best_s(statement_of(4 * base)) < 10 * max(_best_s(statement_of(base)), 0.0001)


@pytest.mark.full
def test_a_list_of_ten_thousand_elements_takes_linear_time() -> None:
    def statement(elements: int) -> str:
        return f"SELECT a FROM t WHERE id IN ({','.join(map(str, range(elements)))})"

    assert _best_s(statement(2000)) < 10 * max(_best_s(statement(500)), 0.0001)
    assert _best_s(statement(10_000)) < 10 * max(_best_s(statement(2000)), 0.0001)


def megabyte() -> str:
    rows = ",".join("(1,'sécret')" for _ in range(100_000))
    return f"INSERT INTO t VALUES {rows}"


@pytest.mark.full
def test_a_megabyte_takes_under_a_millisecond() -> None:
    statement, table = megabyte(), StatementTable()
    spent_s = []
    for _ in range(20):
        # Of this thread alone: what else the machine does is no cost of the statement.
        begun_s = time.thread_time()
        table.statement(statement)
        spent_s.append(time.thread_time() - begun_s)
    assert min(spent_s) < 0.001 * SLOWNESS


def test_a_megabyte_leaves_no_part_of_a_value() -> None:
    text = StatementTable().statement(megabyte()).definition.text
    assert text.startswith("INSERT INTO t VALUES (?,?)")
    assert "cret" not in text
    assert len(text.encode()) <= MAX_TEXT_BYTES


@pytest.mark.parametrize("length", range(1010, 1040))
def test_a_literal_across_the_cut_leaves_no_part(length: int) -> None:
    """A statement too long to parse is cut somewhere, wherever in a literal that is."""
    statement = "SELECT a, '" + "b" * 3 + "' FROM t WHERE c = "
    statement += "d + " * ((length - len(statement)) // 4) + f"'{CANARY}'" + " + 1" * 5000
    text = normalise(statement).text
    assert "kan" not in text
    assert "bbb" not in text


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "statement", ["SELECT 1\0'secret'", "SELECT '\udc80secret'", "\udc80 secret"]
)
def test_texts_that_are_no_utf8_are_masked(statement: str) -> None:
    assert "secret" not in normalise(statement).text


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_normal_form(text: str) -> None:
    normal = normalise(text)
    assert len(normal.text.encode()) <= MAX_TEXT_BYTES
    assert normalise(text) == normal
    assert normal.operation.isalpha()


FRAGMENTS = st.sampled_from(
    [
        *("SELECT ", "INSERT INTO t ", "UPDATE t SET a = ", "DELETE FROM t WHERE a = ", "COPY t "),
        *(
            "VALUES (",
            "WITH x AS (",
            "(",
            ")",
            ", ",
            "; ",
            " ",
            "\n",
            "a",
            "t.b",
            '"Q"',
            "$1",
            "::",
        ),
        *("+", "-", "=", "FROM t ", "WHERE ", " AND ", "IN (", "E", "U&", "B", "LIKE ", "ESCAPE "),
        *(
            "COMMENT ON TABLE t IS ",
            "DO ",
            "PREPARE p AS ",
            "AS ",
            "1.5e-3",
            "ü",
            "CREATE VIEW v AS ",
        ),
    ]
)
CLOSED = st.sampled_from(
    [
        *("'{}'", "E'{}\\''", "$${}$$", "$q${}$q$", "'it''s {}'", "N'{}'", "U&'{}'", "b'{}'"),
        *("/* {} */", "-- {}\n", "E'\\\\{}'", "/* /* */ {} */", "'\n{}'", "'{}' \n '{}'", "X'{}'"),
    ]
)
OPEN = st.sampled_from(
    ["", "'{}", "E'{}\\'", "$${}", "$q${}$$", "/* {}", "-- {}", "'it''{}", '"{}']
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(FRAGMENTS, FRAGMENTS, CLOSED), max_size=12),
    OPEN,
    st.booleans(),
)
def test_no_literal_survives_wherever_it_is_planted(
    parts: list[tuple[str, str, str]], last: str, parsed: bool
) -> None:
    statement = " ".join(before + after + " " + literal for before, after, literal in parts)
    statement = f"{statement} {last}".replace("{}", CANARY)
    with pytest.MonkeyPatch.context() as patch:
        if not parsed:
            patch.setattr(module, "postgast", None)
        assert CANARY not in normalise(statement).text


def test_threads_may_normalise_at_once() -> None:
    statements = [statement_of(200) for statement_of in HOSTILE]
    expected = [normalise(statement) for statement in statements]
    wrong: list[object] = []

    def work(seed: int) -> None:
        order = list(range(len(statements)))
        random.Random(seed).shuffle(order)
        wrong.extend(n for n in order if normalise(statements[n]) != expected[n])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_deep_call_stack_does_no_harm() -> None:
    def deep(depth: int) -> str:
        return deep(depth - 1) if depth else normalise("SELECT ((((1))))").text

    assert deep(700) == "SELECT (((($1))))"


def _best_s(statement: str) -> float:
    """The least thread time of a few tries: what else the machine does is no cost of it."""
    spent_s = []
    for _ in range(5):
        begun_s = time.thread_time()
        normalise(statement)
        spent_s.append(time.thread_time() - begun_s)
    return min(spent_s)
