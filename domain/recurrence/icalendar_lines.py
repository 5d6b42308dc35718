"""The text of an iCalendar file (RFC 5545) as content lines, and the lines of each event in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from domain.errors import Rejected
from domain.recurrence.limits import CALENDAR_EVENTS_MAXIMUM
from domain.recurrence.rrule_text import Reader

EVENT = "VEVENT"
_CALENDAR = "VCALENDAR"
_DEPTH_MAXIMUM = 4
_SHOWN = 40


class Line(NamedTuple):
    """One content line: the number of its first line in the file, its name, parameters and value."""

    number: int
    name: str
    parameters: dict[str, str]
    value: str


def event_lines(text: str, field: str) -> Iterator[list[Line]]:
    """For each VEVENT its BEGIN and the lines that stand directly in it. Raises Rejected naming field and line."""
    components: list[str] = []
    events = 0
    current: list[Line] = []
    for line in _lines(text, field):
        reader = Reader(field, f"line {line.number}")
        if line.name == "BEGIN":
            _enter(components, line, reader)
            if components[-1] == EVENT:
                events += 1
                if events > CALENDAR_EVENTS_MAXIMUM:
                    reader.refuse(f"more than {CALENDAR_EVENTS_MAXIMUM} events")
                current = [line]
        elif not components:
            reader.refuse("this is no iCalendar file: BEGIN:VCALENDAR must come first")
        elif line.name == "END":
            if _leave(components, line, reader) == EVENT:
                yield current
        elif components[-1] == EVENT:
            current.append(line)
    if components or not text.strip():
        raise Rejected("the file ends before END:VCALENDAR", field=field, code="icalendar")


def _enter(components: list[str], line: Line, reader: Reader) -> None:
    components.append(line.value.strip().upper())
    if components[0] != _CALENDAR:
        reader.refuse("BEGIN:VCALENDAR must come first")
    if len(components) > _DEPTH_MAXIMUM:
        reader.refuse(f"components nest deeper than {_DEPTH_MAXIMUM}")
    if components[-1] == EVENT and components[:-1] != [_CALENDAR]:
        reader.refuse("an event must stand directly in VCALENDAR")


def _leave(components: list[str], line: Line, reader: Reader) -> str:
    name = line.value.strip().upper()
    if components[-1] != name:
        reader.refuse(f"END:{name[:_SHOWN]} where END:{components[-1][:_SHOWN]} must stand")
    return components.pop()


def _lines(text: str, field: str) -> Iterator[Line]:
    """Unfolded: a line that begins with a space continues the one before."""
    number, folded = 0, [""]
    for place, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if raw[:1] in {" ", "\t"} and number:
            folded.append(raw[1:])
            continue
        if number:
            yield _content("".join(folded), Reader(field, f"line {number}"), number)
        number, folded = (place, [raw]) if raw.strip() else (0, [""])
    if number:
        yield _content("".join(folded), Reader(field, f"line {number}"), number)


def _content(text: str, reader: Reader, number: int) -> Line:
    head, *rest = _outside_quotes(text, ":", 1)
    if not rest:
        reader.refuse(f"{text[:_SHOWN]!r} is not of the form NAME:VALUE")
    name, *parts = _outside_quotes(head, ";")
    parameters = {}
    for part in parts:
        key, _, value = part.partition("=")
        parameters[key.upper()] = value.strip('"')
    return Line(number, name.upper(), parameters, rest[0])


def _outside_quotes(text: str, separator: str, splits: int = -1) -> list[str]:
    """Split where the separator stands in no quotes."""
    if '"' not in text:
        return text.split(separator, splits)
    parts: list[str] = []
    start, quoted = 0, False
    for place, character in enumerate(text):
        quoted ^= character == '"'
        if character == separator and not quoted and len(parts) != splits:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
