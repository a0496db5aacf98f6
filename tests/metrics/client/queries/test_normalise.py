"""Statements that differ only in values are one, others are not, and no value is left in a text."""

from __future__ import annotations

import pytest

from metrics_service.client.queries import normalise as module
from metrics_service.client.queries.normalise import UNREADABLE, normalise
from metrics_service.client.queries.record import MAX_TEXT_BYTES
from metrics_service.client.queries.statements import OTHER, Fingerprints, StatementTable

EQ, NE = True, False

# Each line: two statements, and whether they are one. Every pair that is expected of normalisation.
EXPECTED = [
    # Values.
    ("SELECT 1", EQ, "SELECT 2"),
    ("SELECT 1", EQ, "SELECT $1"),
    ("SELECT $1, 1", EQ, "SELECT $1, $2"),
    ("SELECT a FROM t WHERE b = 1", EQ, "SELECT a FROM t WHERE b = 'x'"),
    ("SELECT -1", EQ, "SELECT 5"),
    ("SELECT a FROM t LIMIT 1", EQ, "SELECT a FROM t LIMIT 2"),
    ("SELECT a FROM t LIMIT 1", NE, "SELECT a FROM t"),
    (r"SELECT E'a\'b'", EQ, "SELECT 'x'"),
    ("SELECT $$it's$$", EQ, "SELECT 'x'"),
    ("SELECT $tag$it's$tag$", EQ, "SELECT 'x'"),
    ("SELECT B'101'", EQ, "SELECT 'x'"),
    ("SELECT x::int FROM t", EQ, "SELECT CAST(x AS int) FROM t"),
    ("ALTER ROLE someone PASSWORD 'x'", EQ, "ALTER ROLE someone PASSWORD 'y'"),
    (
        "COPY (SELECT a FROM t WHERE b = '1') TO STDOUT",
        EQ,
        "COPY (SELECT a FROM t WHERE b = '2') TO STDOUT",
    ),
    # Lists.
    ("SELECT a FROM t WHERE id IN (1)", EQ, "SELECT a FROM t WHERE id IN (1, 2, 3)"),
    ("SELECT a FROM t WHERE id IN (1, 2, 3)", EQ, "SELECT a FROM t WHERE id = ANY($1)"),
    ("SELECT a FROM t WHERE id IN ($1)", EQ, "SELECT a FROM t WHERE id = ANY($1)"),
    ("SELECT a FROM t WHERE id IN (1 + 1, 2 + 2)", NE, "SELECT a FROM t WHERE id IN (1)"),
    ("SELECT a FROM t WHERE id IN (1 + 1, 2 + 2)", NE, "SELECT a FROM t WHERE id IN (1, 2)"),
    ("SELECT a FROM t WHERE id IN (SELECT 1)", NE, "SELECT a FROM t WHERE id IN (1)"),
    ("INSERT INTO t (a, b) VALUES (1, 2)", EQ, "INSERT INTO t (a, b) VALUES (1, 2), (3, 4)"),
    ("INSERT INTO t (a, b) VALUES (1, 2)", EQ, "INSERT INTO t (b, a) VALUES (1, 2)"),
    # What a statement does.
    ("INSERT INTO t VALUES (1)", NE, "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING"),
    ("SELECT 1 FROM t WHERE a > 1", NE, "SELECT 1 FROM t WHERE a >= 1"),
    ("SELECT 1 FROM t FOR UPDATE", NE, "SELECT 1 FROM t FOR SHARE"),
    ("SELECT 1 FROM t FOR UPDATE", NE, "SELECT 1 FROM t FOR UPDATE SKIP LOCKED"),
    ("SELECT 1 FROM t FOR UPDATE", NE, "SELECT 1 FROM t"),
    ("SELECT 1 FROM t FOR SHARE", NE, "SELECT 1 FROM t FOR SHARE SKIP LOCKED"),
    ("SELECT 1 FROM t FOR SHARE", NE, "SELECT 1 FROM t FOR UPDATE SKIP LOCKED"),
    ("SELECT 1 FROM t FOR SHARE", NE, "SELECT 1 FROM t"),
    ("SELECT 1 FROM t FOR UPDATE SKIP LOCKED", NE, "SELECT 1 FROM t"),
    ("SELECT a FROM t", NE, "SELECT b FROM t"),
    ("CREATE TABLE t (a int)", NE, "CREATE INDEX i ON t (a)"),
    # Comments and blanks.
    ("SELECT 1 /* note */", EQ, "SELECT 1 -- another\n"),
    ("SELECT 1 /*traceparent='00-4bf92f3577b34da6-00f067aa0ba902b7-01'*/", EQ, "SELECT 1"),
    ("SELECT 1 /*traceparent='00-0a-0b-01'*/", EQ, "SELECT 1 /*traceparent='00-0c-0d-01'*/"),
    ("  select  a from t ", EQ, "SELECT A FROM t"),
    # Names that a session makes up.
    ("SAVEPOINT a", EQ, "SAVEPOINT b"),
    ("RELEASE SAVEPOINT a", EQ, "RELEASE SAVEPOINT b"),
    ("DECLARE a CURSOR FOR SELECT 1", EQ, "DECLARE b CURSOR FOR SELECT 1"),
    ("FETCH 10 FROM a", EQ, "FETCH 20 FROM b"),
    ("PREPARE a AS SELECT 1", EQ, "PREPARE b AS SELECT 1"),
    ("EXECUTE a(1)", EQ, "EXECUTE b(2)"),
    ("DEALLOCATE a", EQ, "DEALLOCATE b"),
]
TEXTS = [
    ("SELECT $1, 1", "select", "SELECT $1, $2"),
    (
        "SELECT a FROM t WHERE id IN (1+1, 2+2)",
        "select",
        "SELECT a FROM t WHERE id IN ($1+$2, $3+$4)",
    ),
    ("select a/* x */,b -- y\nfrom t", "select", "select a ,b from t"),
    ("SELECT a FROM t ORDER BY 1", "select", "SELECT a FROM t ORDER BY ?"),
    ("WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT a FROM x", "insert", None),
    ("(SELECT 'a') UNION (SELECT 'b')", "select", "(SELECT $1) UNION (SELECT $2)"),
    ("COPY t FROM PROGRAM 'secret'", "copy", "COPY t FROM PROGRAM ?"),
    ("COMMENT ON TABLE t IS 'secret'", "comment", "COMMENT TABLE"),
    ("CREATE VIEW v AS SELECT 'secret'", "create", "CREATE VIEW"),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "create", "CREATE INDEX"),
    ("ALTER SYSTEM SET x = 'secret'", "alter", "ALTER SYSTEM"),
    ("ALTER ROLE r PASSWORD 'secret'", "alter", "ALTER ROLE"),
    ("PREPARE TRANSACTION 'secret'", "prepare", "PREPARE"),
    ("EXPLAIN SELECT 'secret'", "explain", "EXPLAIN"),
    ("SELECT 1; COMMENT ON TABLE t IS 'secret'", "select", "SELECT $1; COMMENT TABLE"),
    ("secret words", "unreadable", "?"),
    ("SELECT 'secret", "select", "SELECT ?"),
    ("SELECT $x$secret", "select", "SELECT ?"),
    # In a name PostgreSQL takes any character that is not ASCII.
    ("SELECT ☃$t$, '$t$ secret', 'b", "select", "SELECT ☃$t$, ?, ?"),
    ("SELECT \xa0$t$, '$t$ secret', 'b", "select", "SELECT \xa0$t$, ?, ?"),
    *(
        (f"SELECT $x{tag}$a secret$x{tag}$, 'b", "select", "SELECT ?, ?")
        for tag in "\u0301\xa0\u0663☃"
    ),
    *(
        (f"SELECT ${tag}$a secret${tag}$, 'b", "select", "SELECT ?, ?")
        for tag in "\u0301\xa0\u0663☃"
    ),
    ('SELECT "secret', "select", "SELECT ?"),
    ("/* secret", "empty", ""),
    # As a session without standard_conforming_strings writes them.
    (r"SELECT 'it\'s secret', 'secret'", "select", "SELECT ?"),
    (r"SELECT a = '\', secret, \''", "select", "SELECT a = ?"),
    (r"SELECT 'a\'' || ' secret' FROM t", "select", "SELECT ?"),
    (r"SELECT E'a\'b', '/*', a FROM t WHERE b = 'secret'", "select", None),
    ("", "empty", ""),
    ("SELECT * FROM json_table('{}', '$' columns (x int path '$.secret'))", "select", None),
]


@pytest.mark.parametrize(("one", "same", "other"), EXPECTED)
def test_statements_have_one_fingerprint_exactly_if_they_differ_only_in_values(
    one: str, same: bool, other: str
) -> None:
    assert (normalise(one).fingerprint == normalise(other).fingerprint) is same


@pytest.mark.parametrize(("statement", "operation", "text"), TEXTS)
def test_texts_have_placeholders_for_values(
    statement: str, operation: str, text: str | None
) -> None:
    normal = normalise(statement)
    assert normal.operation == operation
    assert "secret" not in normal.text
    if text is not None:
        assert normal.text == text


@pytest.mark.parametrize("statement", [statement for statement, _, _ in TEXTS])
def test_without_the_parser_no_value_remains_either(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = normalise(statement)
    monkeypatch.setattr(module, "postgast", None)
    lexical = normalise(statement)
    assert lexical.operation == parsed.operation
    assert "secret" not in lexical.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 'x'"),
        ("SELECT a FROM t WHERE id IN (1)", "SELECT a FROM t WHERE id IN (1, 2, 3)"),
        ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2), (3, 4)"),
        (r"SELECT E'a\'b', U&'x', 1.5e-3", "SELECT $$x$$, 'it''s', 7"),
        ("SELECT 1 /* a /* nested */ comment */", "SELECT 1"),
    ],
)
def test_without_the_parser_lists_of_values_are_still_merged(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "postgast", None)
    assert normalise(one).fingerprint == normalise(other).fingerprint


def test_no_text_of_a_failing_parser_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(statement: str) -> None:
        raise RuntimeError(statement)

    monkeypatch.setattr(module, "_parsed", fail)
    assert normalise("SELECT 'secret'") == UNREADABLE


def test_long_texts_are_cut_between_characters() -> None:
    text = normalise('SELECT "' + "ü" * 4000 + '"').text
    assert len(text.encode()) <= MAX_TEXT_BYTES
    assert text.endswith("ü...")


def test_ten_thousand_distinct_texts_stay_bounded_and_hot_ones_survive() -> None:
    table = StatementTable(max_fingerprints=500, max_texts=1000)
    hot = [f"SELECT hot_{n} FROM t" for n in range(20)]
    wanted = {table.statement(text).definition.fingerprint for text in hot}
    for n in range(10_000):
        table.statement(f"SELECT column_{n} FROM t WHERE a = {n}")
        if n % 50 == 0:
            assert {table.statement(text).definition.fingerprint for text in hot} == wanted
    fingerprints = table.fingerprints
    assert len(fingerprints) == 500
    assert len(table) == 1000
    assert fingerprints.others == 10_000 + 20 - 500
    assert fingerprints.evicted == 0


def test_a_new_statement_is_other_until_its_second_use() -> None:
    table = StatementTable(max_fingerprints=2)
    table.statement("SELECT a")
    table.statement("SELECT b")
    assert table.statement("SELECT c").definition == OTHER
    assert table.statement("SELECT c").definition.text == "SELECT c"
    assert table.fingerprints.evicted == 1
    assert table.statement("SELECT b").definition.text == "SELECT b"
    assert table.statement("SELECT a").definition == OTHER


def test_a_text_is_normalised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = StatementTable()
    first = table.statement("SELECT a FROM t WHERE b = $1")
    monkeypatch.setattr("metrics_service.client.queries.statements.normalise", None)
    assert table.statement("SELECT a FROM t WHERE b = $1") is first


def test_cached_texts_are_bounded_in_characters() -> None:
    table = StatementTable(max_chars=50_000)
    for n in range(100):
        table.statement(f"SELECT {n} /* {'x' * 10_000} */")
    assert len(table) < 5


def test_fingerprints_of_names_do_not_depend_on_the_process() -> None:
    table = StatementTable()
    definition = table.operation("bookings", "create", "")
    assert definition.fingerprint == 5003714382240603913
    assert Fingerprints(1).admit(definition) is definition


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;", "transaction.begin"),
        ("start transaction", "transaction.begin"),
        ("COMMIT;", "transaction.commit"),
        ("ROLLBACK", "transaction.rollback"),
        ("ROLLBACK TO a1;", "transaction.rollback_to"),
        ("SAVEPOINT a1", "transaction.savepoint"),
        ("RELEASE SAVEPOINT a1;", "transaction.release"),
    ],
)
def test_transaction_control_is_internal(text: str, name: str) -> None:
    statement = StatementTable().statement(text)
    assert (statement.definition.label, statement.internal) == (name, True)


@pytest.mark.parametrize("text", ["BEGIN; DELETE FROM t", "COMMIT PREPARED 'x'", "BEGINNING"])
def test_what_only_begins_like_transaction_control_is_not_internal(text: str) -> None:
    assert not StatementTable().statement(text).internal
