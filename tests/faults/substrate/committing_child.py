"""Commits for ever and prints an acknowledgement after each commit has returned: `WRITER COUNT` a line.

Each transaction of writer W writes its count under `left/W` and `right/W`, so that half a transaction would show.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from lambent.substrate.ports import Write
from lambent.substrate.sqlite import SqliteDocuments, open_documents


async def write_on(documents: SqliteDocuments, writer: str) -> None:
    document = await documents.get("left", writer)
    count = int(document.value) if document else 0
    while True:
        count += 1
        value = str(count).encode()
        await documents.commit(
            [
                Write(collection="left", key=writer, value=value, expect=count - 1),
                Write(collection="right", key=writer, value=value, expect=count - 1),
                Write(collection="ballast", key=f"{writer}/{count % 50}", value=value * 200),
            ]
        )
        # One write, so that SIGKILL cannot cut an acknowledgement in two.
        os.write(1, f"{writer} {count}\n".encode())


async def main() -> None:
    documents = open_documents(Path(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        for writer in "abcd":
            group.create_task(write_on(documents, writer))


asyncio.run(main())
