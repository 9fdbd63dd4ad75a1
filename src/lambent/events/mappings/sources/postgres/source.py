"""The replicating connection: psycopg 3 for the protocol, our own loop for what it does not know of replication."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lambent.events.mappings.sources.ports import Configuration, Connections, Record, SourceLost, Start
from lambent.events.mappings.sources.postgres import types
from lambent.events.mappings.sources.postgres.config import Settings, read_settings
from lambent.events.mappings.sources.postgres.event import make_record, read_checkpoint, show_lsn
from lambent.events.mappings.sources.postgres.pgoutput import Begin, Change, Commit, Decoder
from lambent.events.mappings.sources.postgres.positions import Positions

PARTITION = "0"
READ_AHEAD = 10_000
"""Records in memory beyond which the socket is left alone until the poller has taken some."""
_EPOCH_S = 946_684_800
CONNECT_TIMEOUT_S = 10
_PRIMARY_KEYS = """
SELECT s.nspname, c.relname, array_agg(a.attname::text)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace s ON s.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary GROUP BY 1, 2
"""


async def open_source(configuration: Configuration, connections: Connections) -> PostgresSource:
    """Connect, and make sure of publication and slot. Raises SourceLost."""
    settings = read_settings(configuration, connections)
    source = PostgresSource(settings)
    await source.prepare()
    return source


class PostgresSource:
    """One slot, hence one partition: the changes in the order of their commits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stream: _Stream | None = None

    async def prepare(self) -> None:
        """The publication before the slot: decoding looks it up as it was at the slot's own position."""
        async with self._connect() as connection:
            await self._publish(connection)
            if await self._find_slot(connection) is None:
                await connection.execute(
                    "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self._settings.name,)
                )

    async def _publish(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        name = sql.Identifier(self._settings.name)
        tables = sql.SQL(", ").join(sql.Identifier(*table) for table in self._settings.tables)
        found = await connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (self._settings.name,))
        if await found.fetchone() is None:
            what = sql.SQL("FOR TABLE {}").format(tables) if self._settings.tables else sql.SQL("FOR ALL TABLES")
            await connection.execute(sql.SQL("CREATE PUBLICATION {} {}").format(name, what))
        elif self._settings.tables:
            await connection.execute(sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(name, tables))

    async def _find_slot(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> tuple[object, ...] | None:
        found = await connection.execute(
            "SELECT confirmed_flush_lsn - '0/0', wal_status FROM pg_replication_slots WHERE slot_name = %s",
            (self._settings.name,),
        )
        return await found.fetchone()

    async def partitions(self) -> Sequence[str]:
        return [PARTITION]

    async def wait_change(self) -> None:
        await asyncio.Event().wait()

    async def open(self, partition: str, at: str | Start) -> None:
        await self.close()
        async with self._connect() as connection:
            slot = await self._find_slot(connection)
            if slot is None or slot[1] == "lost":
                raise SourceLost(
                    f"The replication slot {self._settings.name} is gone or was invalidated on the server (see "
                    "max_slot_wal_keep_size), so that changes were missed: delete the mapping and create it again."
                )
            rows = await (await connection.execute(types.QUERY)).fetchall()
            keys = await (await connection.execute(_PRIMARY_KEYS)).fetchall()
            timeout = await (
                await connection.execute("SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'")
            ).fetchone()
        confirmed = int(str(slot[0]))
        handled = read_checkpoint(at) if isinstance(at, str) else (0, -1)
        silence_s = int(str(timeout[0])) / 1000 if timeout else 0
        decoder = Decoder(types.Types(rows), {(row[0], row[1]): row[2] for row in keys})  # type: ignore
        stream = _Stream(self._settings, decoder, Positions(confirmed, handled), silence_s / 3 or 10)
        try:
            await stream.start()
        except psycopg.Error as exc:
            await stream.close()
            raise SourceLost(f"PostgreSQL does not replicate: {str(exc).strip()}") from exc
        self._stream = stream

    async def read(self, partition: str, max_records: int, wait_s: float) -> Sequence[Record]:
        assert self._stream is not None, "read before open"
        return await self._stream.read(max_records, wait_s)

    async def commit(self, partition: str, checkpoint: str) -> None:
        if self._stream is not None:
            self._stream.commit(*read_checkpoint(checkpoint))

    async def lag(self) -> Mapping[str, int]:
        """`slotLagBytes`: log not yet confirmed; `retainedBytes`: log that the server keeps for the slot."""
        async with self._connect() as connection:
            found = await connection.execute(
                "SELECT pg_current_wal_lsn() - confirmed_flush_lsn, pg_current_wal_lsn() - restart_lsn "
                "FROM pg_replication_slots WHERE slot_name = %s",
                (self._settings.name,),
            )
            row = await found.fetchone()
        return {} if row is None else {"slotLagBytes": int(str(row[0])), "retainedBytes": int(str(row[1]))}

    async def drop(self) -> None:
        """The slot first: one that stays would keep the server's log for ever."""
        await self.close()
        async with self._connect() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE slot_name = %s AND active_pid IS NOT NULL",
                (self._settings.name,),
            )
            # A command of its own waits until the slot's last user has let go of it, as the function does not.
            await self._drop_slot()
            await connection.execute(
                sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(self._settings.name))
            )

    async def _drop_slot(self) -> None:
        replicating = await psycopg.AsyncConnection.connect(
            make_conninfo(self._settings.url, replication="database", connect_timeout=CONNECT_TIMEOUT_S),
            autocommit=True,
        )
        async with replicating:
            with contextlib.suppress(psycopg.errors.UndefinedObject):
                await replicating.execute(
                    sql.SQL("DROP_REPLICATION_SLOT {} WAIT").format(sql.Identifier(self._settings.name))
                )

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
        try:
            conninfo = make_conninfo(self._settings.url, connect_timeout=CONNECT_TIMEOUT_S)
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                yield connection
        except psycopg.Error as exc:
            raise SourceLost(f"PostgreSQL: {str(exc).strip()}") from exc


class _Stream:
    """One START_REPLICATION, from the slot's position on."""

    def __init__(self, settings: Settings, decoder: Decoder, positions: Positions, report_s: float) -> None:
        self._settings = settings
        self._decoder = decoder
        self._positions = positions
        self._report_s = report_s
        self._records: deque[Record] = deque()
        self._begin: Begin | None = None
        self._changed = asyncio.Event()
        self._lost: SourceLost | None = None
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._listening_at: int | None = None
        """The socket's number: libpq closes a lost one by itself, and forgets it."""

    async def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in types.SESSION.items())
        conninfo = make_conninfo(
            self._settings.url, replication="database", options=options, connect_timeout=CONNECT_TIMEOUT_S
        )
        self._connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        name, position = sql.Identifier(self._settings.name), show_lsn(self._positions.confirmed_lsn)
        await self._connection.execute(
            sql.SQL("START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})").format(
                name, sql.SQL(position), sql.Literal(self._settings.name)
            )
        )
        self._listen()
        self._reporter = asyncio.create_task(self._report_regularly(), name="report to postgres")

    async def close(self) -> None:
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.gather(self._reporter, return_exceptions=True)
        self._mute()
        if self._connection is not None:
            if self._lost is None:
                self._report()  # what was handled last, so that it does not come again
            await self._connection.close()

    async def read(self, max_records: int, wait_s: float) -> Sequence[Record]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not self._records and self._lost is None:
                    self._changed.clear()
                    await self._changed.wait()
        if not self._records and self._lost is not None:
            raise self._lost
        taken = [self._records.popleft() for _ in range(min(max_records, len(self._records)))]
        if len(self._records) < READ_AHEAD // 2:
            self._listen()
        return taken

    def commit(self, final_lsn: int, index: int) -> None:
        before = self._positions.confirmed_lsn
        self._positions.handle(final_lsn, index)
        if self._positions.confirmed_lsn != before:
            self._report()

    def _listen(self) -> None:
        if self._listening_at is not None or self._lost is not None or self._connection is None:
            return
        self._listening_at = self._connection.fileno()
        asyncio.get_running_loop().add_reader(self._listening_at, self._take_all)
        # What libpq has read already makes the socket readable no more.
        asyncio.get_running_loop().call_soon(self._take_all)

    def _mute(self) -> None:
        fd, self._listening_at = self._listening_at, None
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)

    def _take_all(self) -> None:
        if self._listening_at is None or self._connection is None:
            return
        try:
            pgconn = self._connection.pgconn
            pgconn.consume_input()
            while len(self._records) < READ_AHEAD:
                length, data = pgconn.get_copy_data(1)
                if length == 0:
                    break
                if length < 0:
                    raise psycopg.OperationalError("the server ended the replication")
                self._take(bytes(data))
            else:
                self._mute()
        except psycopg.Error as exc:
            self._lose(f"PostgreSQL: {str(exc).strip()}")
        except (ValueError, LookupError, struct.error, AssertionError) as exc:
            self._lose(f"PostgreSQL sent a change that cannot be read: {type(exc).__name__}: {exc}")
        self._changed.set()

    def _lose(self, message: str) -> None:
        self._mute()
        self._lost = self._lost or SourceLost(message)
        self._changed.set()

    def _take(self, data: bytes) -> None:
        if data[:1] == b"k":
            sent_lsn, _, answer = struct.unpack("!QQ?", data[1:18])
            self._positions.hear(sent_lsn)
            if answer:
                self._report()
            return
        for message in self._decoder.decode(data[25:]):
            match message:
                case Begin():
                    self._begin = message
                    self._positions.begin(message.final_lsn)
                case Commit():
                    self._positions.commit(message.end_lsn)
                case Change():
                    self._take_change(message)

    def _take_change(self, change: Change) -> None:
        assert self._begin is not None
        index = self._positions.count_change()
        if index is not None:
            record = make_record(self._settings.arn, self._settings.region, self._begin, index, change)
            self._records.append(record)

    async def _report_regularly(self) -> None:
        # A function may run for minutes, and the server ends a connection that is silent for wal_sender_timeout.
        while self._lost is None:
            await asyncio.sleep(self._report_s)
            self._report()

    def _report(self) -> None:
        if self._connection is None or self._lost is not None:
            return
        lsn, now_us = self._positions.confirmed_lsn, round((time.time() - _EPOCH_S) * 1e6)
        try:
            self._connection.pgconn.put_copy_data(b"r" + struct.pack("!QQQq?", lsn, lsn, lsn, now_us, False))
            self._connection.pgconn.flush()
        except psycopg.Error as exc:
            self._lose(f"PostgreSQL: {str(exc).strip()}")
