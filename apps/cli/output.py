"""How commands print: for people by default, one JSON value with `--json`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

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


def print_json(value: Any) -> None:
    """One JSON value."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal, tab-separated lines otherwise.

    Nothing is cut: what has spaces is broken into lines, and a terminal that is too narrow for the rest wraps it.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    terminal = sys.stdout.isatty()
    if terminal:
        cells = [[short_instant(cell) for cell in row] for row in cells]
    if not terminal:
        for row in cells:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
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
            print(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
