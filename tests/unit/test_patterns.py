"""Every pattern of the whole tree takes time in proportion to the text, whatever the text is."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import rota
from rota_server import adapters, apps, domain, observability, outbox
from rota_server.apps.store.events.cloudevents import _header_text
from rota_server.domain.cloudevents import is_media_type, is_uri_reference
from rota_server.domain.errors import Rejected

LENGTH = 12_000
SECONDS = 0.1
"""Of the processor. What is linear takes a millisecond, what is quadratic a second."""

BEGINNINGS = ["", 'a/b;a="', "a:", "//", "2027-01-01T00:00:00.", "P1DT", "${", "x='", "["]
PUMPS = [
    "a",
    "1",
    "%41",
    " ",
    '"',
    '\\"',
    '"\\',
    "'",
    ".",
    ":",
    "/",
    "@",
    ";a=b",
    "; ",
    "=",
    "${",
    "{",
    "$",
    "*",
    "[",
    ",",
    "-",
    "é",
]
ENDINGS = ["", "\x00", '"']
WAYS = ("search", "match", "fullmatch", "sub", "split", "findall", "finditer")


def modules() -> Iterator[object]:
    for package in (apps, domain, adapters, observability, outbox, rota):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in found.name and not found.name.endswith(("__main__", "bench_tasks", "demo_tasks")):
                yield importlib.import_module(found.name)


def uses() -> Iterator[tuple[str, re.Pattern[Any], set[str]]]:
    """Every pattern with the ways in which its module, or whoever imports it, uses it."""
    found = list(modules())
    sources = {module.__name__: inspect.getsource(module) for module in found}  # type: ignore[arg-type, attr-defined]
    for module in found:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                used = re.findall(rf"\b{name}\.(\w+)\(", sources[module.__name__])  # type: ignore[attr-defined]
                passed = re.search(rf"\(.*\b{name}\b.*\)", sources[module.__name__])  # type: ignore[attr-defined]
                yield f"{module.__name__}.{name}", value, {"fullmatch"} if passed and not used else set(used)  # type: ignore[attr-defined]


def slow_text(pattern: re.Pattern[Any], way: str) -> str | None:
    """A text for which the pattern takes too long."""
    for beginning, pump, ending in itertools.product(BEGINNINGS, PUMPS, ENDINGS):
        text: Any = beginning + pump * (LENGTH // len(pump)) + ending
        text = text.encode() if isinstance(pattern.pattern, bytes) else text
        arguments = ("", text) if way == "sub" else (text,)
        if isinstance(pattern.pattern, bytes) and way == "sub":
            arguments = (b"", text)
        call = getattr(pattern, way)
        if seconds_of((lambda *given: list(call(*given))) if way == "finditer" else call, *arguments) > SECONDS:  # noqa: B023
            return f"{beginning!r} + {pump!r} * n + {ending!r}"
    return None


def seconds_of(call: object, *arguments: object) -> float:
    began = time.thread_time()
    call(*arguments)  # type: ignore[operator]
    return time.thread_time() - began


def test_no_pattern_takes_more_than_linear_time():
    looked_at = 0
    for name, pattern, ways in uses():
        for way in ways & set(WAYS):
            looked_at += 1
            assert slow_text(pattern, way) is None, (name, way)
    assert looked_at > 40


@pytest.mark.parametrize("text", ['"' + '\\"' * 60_000, '"' * 120_000, "%22" * 40_000, "\\" * 120_000, '"\\' * 60_000])
def test_no_header_holds_the_store(text: str):
    began = time.thread_time()
    with pytest.raises(Rejected):
        _header_text(text.encode(), "ce-x")
    assert time.thread_time() - began < SECONDS
    assert seconds_of(is_media_type, "a/b;a=" + text) < SECONDS
    assert seconds_of(is_uri_reference, "//" + text) < SECONDS


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"a\\"b" c', 'a"b c'),
        (b'x "a" "b\\\\"', "x a b\\"),
        (b'"a', '"a'),
        (b'"a\\"b', '"a\\"b'),
        (b'a" b "c', "a b c"),
        (b'""', ""),
        (b"Euro%20%E2%82%AC", "Euro \u20ac"),
    ],
)
def test_quoted_strings_in_headers_are_read_as_before(raw: bytes, text: str):
    assert _header_text(raw, "ce-x") == text
