from __future__ import annotations

import re
from importlib import resources

import apsw
import pytest

from lambent.substrate.sqlite.documents import end_of_prefix
from lambent.substrate.sqlite.sql import load_migrations, load_queries, parse_queries


def test_statements_are_cut_at_their_names() -> None:
    text = "-- a header\n\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2;\n"
    assert parse_queries(text) == {"one": "-- why\nSELECT 1;", "two": "SELECT 2;"}


def test_a_name_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_queries("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")


def test_every_statement_runs_on_the_migrated_schema() -> None:
    connection = apsw.Connection(":memory:")
    for script in load_migrations():
        connection.execute(script).fetchall()
    for statement in load_queries().values():
        names = re.findall(r":(\w+)", statement)
        connection.execute(f"EXPLAIN {statement}", dict.fromkeys(names)).fetchall()
    connection.close()


def test_every_statement_is_used() -> None:
    package = resources.files("lambent.substrate.sqlite")
    source = "".join(file.read_text("utf-8") for file in package.iterdir() if file.name.endswith(".py"))
    assert [name for name in load_queries() if f'"{name}"' not in source] == []


def test_a_list_uses_the_primary_key() -> None:
    connection = apsw.Connection(":memory:")
    for script in load_migrations():
        connection.execute(script).fetchall()
    bounds = {"collection": "c", "start": "a", "after": "", "stop": "b", "limit": 10}
    plan = str(connection.execute("EXPLAIN QUERY PLAN " + load_queries()["list_documents"], bounds).fetchall())
    assert "USING PRIMARY KEY (collection=? AND key>?" in plan
    assert "TEMP B-TREE" not in plan
    connection.close()


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("a/", "a0"),
        ("\ud7ff", "\ue000"),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\U0010ffff", None),
    ],
)
def test_the_end_of_a_prefix_is_the_next_text_that_does_not_start_with_it(prefix: str, end: str | None) -> None:
    assert end_of_prefix(prefix) == end
