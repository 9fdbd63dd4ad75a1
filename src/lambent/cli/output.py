"""What commands print: data on stdout, words about it on stderr; colour only for a person at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import click

_UNITS = ("B", "KB", "MB", "GB", "TB")


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def may_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, *, stream: TextIO, **style: Any) -> str:
    return click.style(text, **style) if may_colour(stream) else text


def say(text: str = "") -> None:
    click.echo(text)


def note(text: str) -> None:
    click.echo(text, err=True)


def wrap(text: str, *, stream: TextIO, indent: int = 0, first: int | None = None) -> str:
    """Between words to the width of a terminal, each line after the first by `indent`; as it is for a pipe.

    `first`: how much of the first line is taken already.
    """
    if not is_terminal(stream):
        return text
    width = max(40, shutil.get_terminal_size().columns)
    taken = indent if first is None else first
    lines: list[str] = []
    for line in text.split("\n"):
        lines += textwrap.wrap(
            line,
            width,
            initial_indent=" " * (indent if lines else taken),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)[taken:]


def write_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Aligned columns. A terminal gets them wrapped to its width, a pipe gets every line whole."""
    if is_terminal(sys.stdout):
        _write_rich_table(columns, rows, right)
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _write_rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    # Imported here: 50 ms that only a table on a terminal pays.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        # The first column names things: it is never cut.
        table.add_column(column, justify="right" if column in right else "left", no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_style_of(cell)) for cell in row))
    Console(no_color=not may_colour(sys.stdout), highlight=False).print(table)


def _style_of(cell: str) -> str:
    if cell in ("ok", "yes", "Active", "idle"):
        return "green"
    if cell in ("warn", "Pending", "InProgress", "busy", "starting"):
        return "yellow"
    return "red" if cell in ("fail", "Failed", "no") else ""


def write_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, aligned."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        lines = value.split("\n")
        click.echo(f"{paint(name.ljust(width), stream=sys.stdout, dim=True)}  {lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {line}")


def show_bytes(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def show_duration(seconds: float) -> str:
    """`4.2 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for big, big_name, small, small_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= big:
            rest = whole % big // small
            return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError("unreachable")


class Step:
    """One phase of a longer command: a line on stderr that ends with what came of it."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._live = is_terminal(sys.stderr) and not os.environ.get("CI")
        self._started_at = time.monotonic()
        self.update("")

    def update(self, detail: str) -> None:
        """Say how far it is; seen on a terminal only."""
        if self._live:
            line = f"  {self._doing}… {detail}"
            width = shutil.get_terminal_size().columns
            click.echo(f"\r\x1b[2K{line[: width - 1]}", nl=False, err=True)

    def done(self, text: str, *, timed: bool = False) -> None:
        took = time.monotonic() - self._started_at
        self.clear()
        mark = paint("✓", stream=sys.stderr, fg="green")
        note(f"{mark} {text}" + (f" ({show_duration(took)})" if timed else ""))

    def clear(self) -> None:
        if self._live:
            click.echo("\r\x1b[2K", nl=False, err=True)


@contextlib.contextmanager
def step(doing: str) -> Iterator[Step]:
    """Leaves no half line behind when the phase fails."""
    current = Step(doing)
    try:
        yield current
    except BaseException:
        current.clear()
        raise
