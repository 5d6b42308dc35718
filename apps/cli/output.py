"""How commands print: for people by default, one JSON value with `--json`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

TEXT_COLUMNS = 24
"""The narrowest that a column of sentences gets; ids and names get what they need."""

GAP_COLUMNS = 2
INSTANT = re.compile(r"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|\+00:00)\Z")


class Failure(Exception):
    """The command ends with this message on standard error; status 1: it failed, 2: wrong usage."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


UNSEEN = (
    r"\x80-\x9f"  # C1 controls: some terminals take them for ESC and the next character
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn text round, so that it reads as something else
    r"\u2028\u2029\ud800-\udfff"  # further line ends, and halves of characters, which cannot be written
)
CONTROLS = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f{UNSEEN}]")
IN_JSON = re.compile(rf"[\x7f{UNSEEN}]")
HALVES = re.compile(r"[\ud800-\udfff]")


def harmless(text: str) -> str:
    """Return the text with everything escaped that a terminal would obey instead of showing; lines stay lines."""
    return CONTROLS.sub(_escape, text)


def one_line(text: str) -> str:
    """Return the text harmless and without line ends, as one cell or one entry of a list."""
    return harmless(text).replace("\n", r"\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(*values: object, sep: str = " ", end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print what may hold text of others: names, logs, errors. A terminal gets it harmless, a file or pipe as it is."""
    out = file or sys.stdout
    text = sep.join(str(value) for value in values)
    text = harmless(text) if out.isatty() else HALVES.sub(_escape, text)
    print(text, end=end, file=out, flush=flush)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return the value as JSON that a terminal shows and does not obey; the value is the same."""
    return IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=indent, ensure_ascii=False))


def print_json(value: Any) -> None:
    """One JSON value."""
    say(json_text(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal, tab-separated lines otherwise.

    Nothing is cut: what has spaces is broken into lines, and a terminal that is too narrow for the rest wraps it.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    terminal = sys.stdout.isatty()
    if terminal:
        cells = [[one_line(short_instant(cell)) for cell in row] for row in cells]
    else:
        for row in cells:
            say("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    least = 0
    for index, name in enumerate(columns):
        column = [row[index] for row in cells]
        texts = any(" " in cell for cell in column)
        widest = max((len(cell) for cell in column), default=0)
        table.add_column(name, no_wrap=not texts, overflow="fold")
        least += max(len(name), min(widest, TEXT_COLUMNS) if texts else widest) + GAP_COLUMNS
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # as it is: what others have written is no markup
    width, height = Console().size
    Console(width=max(width, least), height=height).print(table, soft_wrap=True)


def short_instant(text: str) -> str:
    """Return an instant in UTC to the second; any other text as it is."""
    return INSTANT.sub(r"\1Z", text)


def print_fields(fields: dict[str, Any]) -> None:
    """One field a line."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value is not None:
            say(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
