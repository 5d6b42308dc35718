"""The text of an iCalendar file (RFC 5545) as content lines, and these as components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import CALENDAR_EVENTS_MAXIMUM
from rota_server.domain.recurrence.rrule_text import Reader

EVENT = "VEVENT"
CALENDAR = "VCALENDAR"
UNREADABLE = ""
"""The name of a line that is not of the form NAME:VALUE."""
Check = Callable[[], None]
"""Is called again and again while a file is worked out; what it raises ends that."""
_LINES_BETWEEN_CHECKS = 1_000
_DEPTH_MAXIMUM = 4
_SHOWN = 40


class Line(NamedTuple):
    """One content line: the number of its first line in the file, its name, parameters and value."""

    number: int
    name: str
    parameters: dict[str, str]
    value: str


@dataclass(slots=True)
class Component:
    """What stands between BEGIN and END: the number of the BEGIN's line, the lines directly in it, its components."""

    name: str
    number: int
    lines: list[Line] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)


def unchecked() -> None:
    """The Check that lets everything go on."""


def read_components(text: str, field_name: str, check: Check = unchecked) -> list[Component]:
    """The VCALENDARs of a file. Raises Rejected naming field and line where they do not begin and end as they must."""
    calendars: list[Component] = []
    around: list[Component] = []
    events = 0
    for count, line in enumerate(_lines(text)):
        if count % _LINES_BETWEEN_CHECKS == 0:
            check()
        reader = Reader(field_name, f"line {line.number}")
        if line.name == "BEGIN":
            component = Component(line.value.strip().upper(), line.number)
            _check_place(component, around, reader)
            (around[-1].components if around else calendars).append(component)
            around.append(component)
            events += component.name == EVENT
            if events > CALENDAR_EVENTS_MAXIMUM:
                reader.refuse(f"more than {CALENDAR_EVENTS_MAXIMUM} events")
        elif not around:
            if line.name == UNREADABLE:
                reader.refuse(f"{line.value[:_SHOWN]!r} is not of the form NAME:VALUE")
            reader.refuse("this is no iCalendar file: BEGIN:VCALENDAR must come first")
        elif line.name == "END":
            name = line.value.strip().upper()
            if around[-1].name != name:
                reader.refuse(f"END:{name[:_SHOWN]} where END:{around[-1].name[:_SHOWN]} must stand")
            around.pop()
        else:
            around[-1].lines.append(line)
    if around or not calendars:
        raise Rejected("the file ends before END:VCALENDAR", field=field_name, code="icalendar")
    return calendars


def _check_place(component: Component, around: list[Component], reader: Reader) -> None:
    if (component.name == CALENDAR) == bool(around):
        reader.refuse("a VCALENDAR stands in no other component" if around else "BEGIN:VCALENDAR must come first")
    if len(around) >= _DEPTH_MAXIMUM:
        reader.refuse(f"components nest deeper than {_DEPTH_MAXIMUM}")
    if component.name == EVENT and len(around) != 1:
        reader.refuse("an event must stand directly in VCALENDAR")


def _lines(text: str) -> Iterator[Line]:
    """Unfolded: a line that begins with a space continues the one before."""
    number, folded = 0, [""]
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for place, raw in enumerate(plain.split("\n"), start=1):
        if raw[:1] in {" ", "\t"} and number:
            folded.append(raw[1:])
            continue
        if number:
            yield _content("".join(folded), number)
        number, folded = (place, [raw]) if raw.strip() else (0, [""])
    if number:
        yield _content("".join(folded), number)


def _content(text: str, number: int) -> Line:
    head, *rest = _outside_quotes(text, ":", 1)
    if not rest:
        return Line(number, UNREADABLE, {}, text)
    name, *parts = _outside_quotes(head, ";")
    parameters = {}
    for part in parts:
        key, _, value = part.partition("=")
        parameters[key.strip().upper()] = value.strip().strip('"')
    return Line(number, name.strip().upper(), parameters, rest[0])


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
