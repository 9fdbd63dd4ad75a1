"""Writes rows through `Tables` and prints the number of each that was acknowledged: `power_cut_child.py FILE SYNC`.

SYNC `full` is how Lambent opens its store; `off` is the negative control, which shows that the test can fail.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from lambent.substrate.ports import Connection, Schema
from lambent.substrate.sqlite.tables import open_tables

SCHEMA = Schema(name="rows", versions=("CREATE TABLE rows (number INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT",))


async def write(path: Path, synchronous: str) -> None:
    tables = open_tables(path, [SCHEMA])
    if synchronous == "off":
        tables._writer._connection.pragma("synchronous", 0)
    numbers = itertools.count()

    async def produce() -> None:
        for number in numbers:

            def insert(connection: Connection, number: int = number) -> None:
                connection.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 200))

            await tables.write(insert)
            os.write(1, b"%d\n" % number)

    await asyncio.gather(*(produce() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
