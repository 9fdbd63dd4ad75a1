"""The SQL of this package: named statements of `queries.sql`, numbered files of `migrations/`."""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")
_PACKAGE = "lambent.substrate.sqlite"


def load_queries() -> dict[str, str]:
    """The statements of `queries.sql` by their names."""
    return parse_queries(resources.files(_PACKAGE).joinpath("queries.sql").read_text("utf-8"))


def parse_queries(text: str) -> dict[str, str]:
    """Cut a file at its `-- name: NAME` lines. Raises ValueError when a name occurs twice."""
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError("a statement's name occurs twice")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}


def load_migrations() -> list[str]:
    """The scripts in order; number N takes a store from format N-1 to format N."""
    folder = resources.files(_PACKAGE).joinpath("migrations")
    found = {}
    for file in folder.iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match is not None:
            found[int(match[1])] = file.read_text("utf-8")
    assert sorted(found) == list(range(1, len(found) + 1)), "migrations must be numbered without gaps"
    return [found[number] for number in sorted(found)]
