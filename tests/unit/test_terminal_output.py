"""What others have written reaches a terminal as text to read, never as something to obey."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import struct
import termios
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.apps.cli.output import harmless, json_text, print_fields, print_json, print_table, say

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m[/wf][red]\x00\x7f\u202eexe.txt\u2066\rOK\n\u2028\ud800"
OBEYED = set("\x00\x07\x1b\x7f\x9b\u202e\u2066\r\u2028")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(print_it: Callable[[], None]) -> str:
    screen = Terminal()
    with contextlib.redirect_stdout(screen):
        print_it()
    return screen.getvalue()


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = harmless(text)
    assert not OBEYED & set(shown)
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "print_it",
    [
        lambda: say(HOSTILE),
        lambda: say("rota:", HOSTILE, end=""),
        lambda: print_json({HOSTILE: [HOSTILE]}),
        lambda: print_fields({"name": HOSTILE, "tags": {"a": HOSTILE}}),
    ],
)
def test_every_way_to_print_is_harmless(print_it: Callable[[], None]) -> None:
    shown = on_terminal(print_it)
    assert not OBEYED & set(shown)
    assert "[/wf][red]" in shown


def test_a_table_shows_markup_and_controls_as_text_each_row_on_its_own() -> None:
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 300, 0, 0))
    with os.fdopen(terminal, "w") as screen, contextlib.redirect_stdout(screen):
        print_table(("NAME",), [(HOSTILE,), ("second",)])
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert "[/wf][red]" in shown
    assert r"\x1b]0;title\x07" in shown
    assert len(shown.splitlines()) == 3


def test_what_goes_into_a_file_or_pipe_is_as_it_was() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        say("\x1b[31mred\x1b[0m", end="")
    assert out.getvalue() == "\x1b[31mred\x1b[0m"


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_value(value: dict[str, str]) -> None:
    assert json.loads(json_text(value)) == value
