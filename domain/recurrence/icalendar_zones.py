"""The time zones that an iCalendar file names: of the IANA database, of Windows, or defined in the file itself."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from rota_server.domain.recurrence import rrule, zones
from rota_server.domain.recurrence.icalendar_lines import Check, Component, Line, unchecked
from rota_server.domain.recurrence.instants import END_SECOND
from rota_server.domain.recurrence.rrule_text import Reader, RRule, parse_moment, parse_recur
from rota_server.domain.recurrence.zones import Zone, iana_name

_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?", re.ASCII)
_CHANGES_MAXIMUM = 2_000
"""Changes of offset of one zone that a file defines."""
DEFINITIONS_MAXIMUM = 100
"""Zones that one file defines and uses."""
_EARLIEST_CHANGE = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
"""Changes before this are of no account: no nominal time lies before the year 2000."""
_SHOWN = 60


class FileZone(Zone):
    """A zone by its changes of offset: instants in seconds, in order, and the offset from each of them on."""

    __slots__ = ("_changes", "_offsets")

    def __init__(self, name: str, changes: Iterable[tuple[int, int]], before: int) -> None:
        super().__init__(name, zones.zone("UTC").info)
        ordered = sorted(changes)
        self._changes = [at for at, _ in ordered]
        self._offsets = [before, *(offset for _, offset in ordered)]

    def offset_at(self, second: int) -> int:
        """The offset from UTC in seconds at an instant."""
        return self._offsets[bisect_right(self._changes, second)]


class Zones:
    """What the zone names of one file stand for."""

    def __init__(self, defined: Mapping[str, Component], field_name: str, check: Check = unchecked) -> None:
        self._check = check
        self._defined = defined
        self._field = field_name
        self._known: dict[str, Zone] = {}
        self._evaluated = 0

    def named(self, name: str, reader: Reader) -> Zone:
        """The zone of a TZID. Raises Rejected with the line."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._find(name, reader)
        return found

    def _find(self, name: str, reader: Reader) -> Zone:
        known = iana_name(name) or _in_path(name)
        if known is None and name in self._defined:
            self._evaluated += 1
            if self._evaluated > DEFINITIONS_MAXIMUM:
                reader.refuse(f"the file defines and uses more than {DEFINITIONS_MAXIMUM} zones")
            return _evaluate(name, self._defined[name], self._field, self._check)
        known = known or zones.of_windows(name)
        if known is None:
            lead = zones.lead_to(name)
            reader.refuse(
                f"{name[:_SHOWN]!r} is no time zone of the IANA database or of Windows, and the file does not define it"
                f"{lead}"
            )
        return zones.zone(known)


def _in_path(name: str) -> str | None:
    """The IANA name at the end of a globally unique one, such as /example.com/2027/Europe/Berlin."""
    if "/" not in name.removeprefix("/") or not (name.startswith("/") or "://" in name):
        return None
    parts = name.split("/")
    candidates = ("/".join(parts[-count:]) for count in (3, 2, 1) if len(parts) >= count)
    return next((known for part in candidates if part and (known := iana_name(part)) is not None), None)


def _evaluate(name: str, component: Component, field_name: str, check: Check) -> FileZone:
    """The zone of a VTIMEZONE. Raises Rejected with the line."""
    changes: dict[int, tuple[int, int]] = {}
    for observance in component.components:
        if observance.name not in {"STANDARD", "DAYLIGHT"}:
            continue
        for at, before, offset in _changes_of(observance, field_name):
            check()
            changes[at] = (before, offset)
            if len(changes) > _CHANGES_MAXIMUM:
                Reader(field_name, f"line {component.number}").refuse(
                    f"the zone {name[:_SHOWN]!r} changes more than {_CHANGES_MAXIMUM} times"
                )
    if not changes:
        Reader(field_name, f"line {component.number}").refuse(
            f"the zone {name[:_SHOWN]!r} has no STANDARD, no DAYLIGHT"
        )
    before = changes[min(changes)][0]
    return FileZone(name, ((at, offset) for at, (_, offset) in changes.items()), before)


def _changes_of(observance: Component, field_name: str) -> Iterator[tuple[int, int, int]]:
    """The instants at which an observance begins, with the offsets before and after."""
    lines: dict[str, Line] = {}
    rules: list[RRule] = []
    dates: list[int] = []
    for line in observance.lines:
        reader = Reader(field_name, f"line {line.number}")
        if line.name == "RRULE" and line.value.strip():
            rules.append(parse_recur(line.value, reader))
        elif line.name == "RDATE" and line.value.strip():
            dates += [
                parse_moment(part, line.parameters, reader, earliest_year=1).local for part in line.value.split(",")
            ]
        else:
            lines[line.name] = line
    begin = Reader(field_name, f"line {observance.number}")
    before, offset = (_offset(lines.get(name), name, begin) for name in ("TZOFFSETFROM", "TZOFFSETTO"))
    first = lines.get("DTSTART")
    if first is None:
        begin.refuse(f"{observance.name} has no DTSTART")
    start = parse_moment(first.value, first.parameters, Reader(field_name, f"line {first.number}"), earliest_year=1)
    onsets = {start.local, *dates}
    for rule in rules:
        onsets.update(_onsets(rule, start.local, before, begin))
    for local in onsets:
        yield local - before, before, offset


def _onsets(rule: RRule, start: int, before: int, reader: Reader) -> Iterator[int]:
    if rule.elapsed:
        reader.refuse("a zone changes daily or more rarely")
    bound = rrule.BoundRRule(rule, zones.zone("UTC"), start)
    last = END_SECOND
    if rule.until is not None:
        last = rule.until.local + (before if rule.until.utc else 0)
    counted = 0
    local = bound.next_local(start if rule.count is not None else max(start, _EARLIEST_CHANGE), 0, END_SECOND)
    while local is not None and local <= last and counted != rule.count:
        yield local
        counted += 1
        if counted > _CHANGES_MAXIMUM:
            reader.refuse(f"the zone changes more than {_CHANGES_MAXIMUM} times")
        local = bound.next_local(local + 1, 0, END_SECOND)


def _offset(line: Line | None, name: str, begin: Reader) -> int:
    if line is None:
        begin.refuse(f"{name} is missing")
    match = _OFFSET.fullmatch(line.value.strip())
    if match is None or int(match[2]) > 23:
        Reader(begin.field, f"line {line.number}").refuse(f"{line.value[:_SHOWN]!r} is no offset such as +0100")
    seconds = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
    return -seconds if match[1] == "-" else seconds
