"""Reads calendar events of systemd (systemd.time(7)): `Mon..Fri *-*-* 09:00:00 Europe/Berlin`. Pure.

Weekday and date must both match there, which five fields of cron cannot say, so some become recurrence rules.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.zones import iana_name

_SHORT = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
}
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CRON_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_RANGE = re.compile(r"(\d{1,4})\.\.(\d{1,4})", re.ASCII)
_NUMBER = re.compile(r"\d{1,4}", re.ASCII)


class _Field(NamedTuple):
    """The values of a part, and whether it is all of them."""

    values: tuple[int, ...]
    every: bool


def rule_of(text: str) -> dict[str, Any]:
    """The rule of a calendar event, with its zone if it names one. Raises Rejected."""
    words = text.split()
    zone = iana_name(words[-1]) if words else None
    if zone is not None:
        words = words[:-1]
    words = (_SHORT.get(words[0].lower(), words[0]).split() if len(words) == 1 else words) or [""]
    days: tuple[int, ...] = ()
    if words[0][:1].isalpha():
        days = _weekdays(words.pop(0).rstrip(","))
    date = words.pop(0) if words and ":" not in words[0] else "*-*-*"
    time = words.pop(0) if words else "00:00:00"
    if words or not (days or text.strip()):
        raise Rejected(f"{text[:100]!r} is no calendar event such as Mon..Fri *-*-* 09:00:00")
    rule = _rule(days, date, _time(time))
    return rule if zone is None else {**rule, "timezone": zone}


def _rule(days: tuple[int, ...], date: str, time: tuple[_Field, _Field, _Field]) -> dict[str, Any]:
    from_end = "~" in date
    parts = date.replace("~", "-").split("-")
    if len(parts) == 2:
        parts.insert(0, "*")
    if len(parts) != 3:
        raise Rejected(f"{date!r} is no date such as *-*-01")
    bounds = _years(parts[0])
    month, day = _field(parts[1], 1, 12), _field(parts[2], 1, 31)
    if from_end or (days and not day.every):
        return {"rrule": _rrule(days, month, day, time, from_end=from_end), **bounds}
    hour, minute, second = time
    fields = [_cron(minute), _cron(hour), _cron(day), _cron(month)]
    fields.append(",".join(_CRON_DAYS[index] for index in days) if days else "*")
    if second.values != (0,):
        fields.insert(0, _cron(second))
    return {"cron": " ".join(fields), **bounds}


def _cron(field: _Field) -> str:
    """The field in cron; a star for all, since only then the rule follows elapsed time."""
    return "*" if field.every else ",".join(map(str, field.values))


def _rrule(
    days: tuple[int, ...], month: _Field, day: _Field, time: tuple[_Field, _Field, _Field], *, from_end: bool
) -> str:
    hour, minute, second = time
    parts = ["FREQ=HOURLY" if hour.every else "FREQ=DAILY"]
    parts += [f"BYDAY={','.join(_DAYS[index] for index in days)}"] if days else []
    sign = "-" if from_end else ""
    parts += [] if day.every else [f"BYMONTHDAY={','.join(f'{sign}{value}' for value in day.values)}"]
    by = [("BYMONTH", month), ("BYMINUTE", minute), ("BYSECOND", second)] + ([] if hour.every else [("BYHOUR", hour)])
    parts += [
        f"{name}={','.join(map(str, field.values))}" for name, field in by if name != "BYMONTH" or not field.every
    ]
    return ";".join(parts)


def _weekdays(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for term in text.split(","):
        first, dots, last = term.replace("..", "-").partition("-")
        begin, end = _weekday(first), _weekday(last) if dots else _weekday(first)
        found |= {index % 7 for index in range(begin, (end if end >= begin else end + 7) + 1)}
    return tuple(sorted(found))


def _weekday(text: str) -> int:
    found = [index for index, name in enumerate(_NAMES) if text.lower() in {name, name[:3]}]
    if not found:
        raise Rejected(f"{text[:40]!r} is no day of the week and no zone")
    return found[0]


def _time(text: str) -> tuple[_Field, _Field, _Field]:
    parts = text.split(":")
    if len(parts) == 2:
        parts.append("00")
    if len(parts) != 3:
        raise Rejected(f"{text[:40]!r} is no time such as 09:00:00")
    return _field(parts[0], 0, 23), _field(parts[1], 0, 59), _field(parts[2], 0, 59)


def _field(text: str, low: int, high: int) -> _Field:
    values: set[int] = set()
    for term in text.split(","):
        body, slash, step = term.partition("/")
        if "." in step or ("." in body and not _RANGE.fullmatch(body)):
            raise Rejected(f"{term[:40]!r}: fractions of a second cannot be mapped")
        if slash and (not _NUMBER.fullmatch(step) or int(step) == 0):
            raise Rejected(f"{term[:40]!r} has no step such as 2")
        if body == "*":
            begin, end = low, high
        elif (found := _RANGE.fullmatch(body)) is not None:
            begin, end = int(found[1]), int(found[2])
        elif _NUMBER.fullmatch(body):
            begin, end = int(body), high if slash else int(body)
        else:
            raise Rejected(f"{term[:40]!r} cannot be read")
        if not low <= begin <= end <= high:
            raise Rejected(f"{term[:40]!r} is not between {low} and {high}")
        values |= set(range(begin, end + 1, int(step) if slash else 1))
    return _Field(tuple(sorted(values)), len(values) == high - low + 1)


def _years(text: str) -> dict[str, Any]:
    if text == "*":
        return {}
    found = _RANGE.fullmatch(text)
    if found is None and not re.fullmatch(r"\d{4}", text, re.ASCII):
        raise Rejected(f"the years {text[:40]!r} are neither one year nor a range; make a schedule for each")
    first, last = (found[1], found[2]) if found is not None else (text, text)
    return {"start": f"{first}-01-01T00:00:00", "end": f"{last}-12-31T23:59:59"}
