"""Statements are read by name, and a file that is malformed is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicekit.sql_files import Statement, StatementGroup, read_statements


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("-- name: a.b\nSELECT 1;\n-- name: a.b\nSELECT 2;\n", "a.b"),
        ("-- name: ab\nSELECT 1;\n", "ab"),
        ("-- name: a.b\nSELECT 1\n", "a.b"),
        ("-- name: a.b\n;\n", "a.b"),
        ("-- name: a.b\nSELECT 1;\nSELECT 2;\n", "a.b"),
    ],
    ids=["twice", "no model", "no semicolon", "empty", "two statements"],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "some.sql").write_text(text)
    with pytest.raises(ValueError, match=f"some.sql: {wrong}"):
        read_statements(tmp_path)


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one.sql", "two.sql"):
        (tmp_path / name).write_text("-- name: a.b\nSELECT 1;\n")
    with pytest.raises(ValueError, match=r"two\.sql: a\.b"):
        read_statements(tmp_path)


def test_comments_between_statements_belong_to_none(tmp_path: Path) -> None:
    (tmp_path / "some.sql").write_text(
        "-- About a.\n-- name: a.b internal\nSELECT 1;\n\n-- About c.\n-- name: c.d\nSELECT 2;\n"
    )
    assert read_statements(tmp_path) == {
        "a.b": Statement("SELECT 1", internal=True),
        "c.d": Statement("SELECT 2", internal=False),
    }


def test_a_list_of_columns_is_written_once_for_all_files(tmp_path: Path) -> None:
    (tmp_path / "columns.sql").write_text("-- columns: row = id, name,\n--     size\n")
    (tmp_path / "some.sql").write_text(
        "-- name: a.b\nSELECT {row} FROM t;\n-- name: a.c\nSELECT {x.row}, y FROM t AS x;\n"
    )
    assert {name: each.sql for name, each in read_statements(tmp_path).items()} == {
        "a.b": "SELECT id, name, size FROM t",
        "a.c": "SELECT x.id, x.name, x.size, y FROM t AS x",
    }


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("-- name: a.b\nSELECT {x.rows} FROM x;\n", "a.b uses unknown columns 'rows'"),
        ("-- columns: row = id\n-- columns: row = id\n", "columns row are empty or occur twice"),
    ],
    ids=["unknown", "twice"],
)
def test_a_bad_list_of_columns_is_refused_by_name(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "some.sql").write_text(text)
    with pytest.raises(ValueError, match=f"some.sql: {wrong}"):
        read_statements(tmp_path)


def test_group_gives_its_statements_and_names_what_is_missing() -> None:
    statements = {"bookings.get": "SELECT 1", "bookings_old.get": "SELECT 2"}
    group = StatementGroup(statements, "bookings")
    assert group.get == "SELECT 1"
    with pytest.raises(AttributeError, match=r"bookings\.gte"):
        _ = group.gte
    with pytest.raises(ValueError, match=r"bookin$"):
        StatementGroup(statements, "bookin")
