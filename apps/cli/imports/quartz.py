"""Reads lines of Quartz, and the cron expressions of EventBridge, which are written alike. Pure.

Both count the days of the week from Sunday = 1, and want a `?` in one of the two day fields.
"""

from __future__ import annotations

import re
from typing import Any

from rota_server.apps.cli.imports.crontab import Problem
from rota_server.apps.cli.imports.found import Found
from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.cron import parse_cron

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SIZES = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day of month": (1, 31), "month": (1, 12)}
_TITLED = re.compile(r"([A-Za-z_][\w.\-]*)\s*[=:]\s*(\S.*)", re.ASCII)
_YEARS = re.compile(r"(\d{4})(?:-(\d{4}))?", re.ASCII)
_BEFORE_LAST = re.compile(r"L-(\d{1,2})", re.ASCII)
_NUMBER = re.compile(r"\d{1,4}", re.ASCII)


def parse_quartz(text: str) -> tuple[list[Found], list[Problem]]:
    """The schedules and the problems of a list of expressions, one a line, each perhaps with a name: `name = ...`."""
    found: list[Found] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(("#", "!", ";", "//")):
            continue
        titled = _TITLED.fullmatch(line)
        title, expression = (titled[1], titled[2]) if titled is not None else ("quartz", line)
        expression = expression.strip().strip("\"'")
        try:
            rule, notes = rule_of(expression.split())
            found.append(Found(line=number, title=title, rule=rule, notes=notes))
        except Rejected as error:
            problems.append(Problem(line=number, text=line[:200], reason=error.message))
    return found, problems


def rule_of(words: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The rule of second, minute, hour, day of month, month, day of week and perhaps year. Raises Rejected."""
    if len(words) not in {6, 7}:
        raise Rejected(f"{len(words)} fields; six are needed, the second first, or seven with the year")
    second, minute, hour, day, month, weekday, *year = (word.upper() for word in words)
    if (day == "?") == (weekday == "?") and not {"*", "?"} & {day, weekday}:
        raise Rejected("the day of month and the day of week are both given; one of them is a ?")
    fields = [
        _numbers(word, name)
        for word, name in ((second, "second"), (minute, "minute"), (hour, "hour"), (day, "day of month"))
    ]
    months = _numbers(month, "month")
    weekdays, notes = _weekdays(weekday)
    times = fields[:3] if fields[0] != "0" else fields[1:3]
    bounds = _bounds(year[0]) if year else {}
    before_last = _BEFORE_LAST.fullmatch(day)
    if before_last is not None:
        return {**_before_last(before_last, fields, months), **bounds}, tuple(notes)
    rule = " ".join((*times, fields[3], months, weekdays))
    parse_cron(rule)
    return {"cron": rule, **bounds}, tuple(notes)


def _before_last(found: re.Match[str], fields: list[str], months: str) -> dict[str, Any]:
    """The n-th day before the last one of the month, as a recurrence rule."""
    parts = ["FREQ=DAILY", f"BYMONTHDAY=-{int(found[1]) + 1}"]
    for name, text in (("BYSECOND", fields[0]), ("BYMINUTE", fields[1]), ("BYHOUR", fields[2]), ("BYMONTH", months)):
        kind = {"BYSECOND": "second", "BYMINUTE": "minute", "BYHOUR": "hour", "BYMONTH": "month"}[name]
        parts.append(f"{name}={','.join(map(str, _values(text, *_SIZES[kind])))}")
    return {"rrule": ";".join(parts)}


def _numbers(text: str, name: str) -> str:
    """A field whose numbers Rota reads alike; `?` is `*`, and a range that runs backwards is two."""
    if text == "?":
        return "*"
    terms = []
    for term in text.split(","):
        body, slash, step = term.partition("/")
        first, dash, last = body.partition("-")
        if name == "month":
            first, last = _month(first), _month(last)
        low, high = _SIZES[name]
        if dash and _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last) and int(last) < int(first):
            if slash:
                raise Rejected(f"{name}: the range {body} runs backwards and has a step")
            terms.append(f"{first}-{high},{low}-{last}")
        else:
            terms.append(first + (f"-{last}" if dash else "") + (f"/{step}" if slash else ""))
    return ",".join(terms)


def _month(text: str) -> str:
    return str(_MONTHS.index(text) + 1) if text in _MONTHS else text


def _values(text: str, low: int, high: int) -> list[int]:
    values: set[int] = set()
    for term in text.split(","):
        body, slash, step = term.partition("/")
        first, dash, last = ("*", "", "") if body == "*" else body.partition("-")
        try:
            begin = low if first == "*" else int(first)
            end = int(last) if dash else high if slash or first == "*" else begin
            values |= set(range(begin, end + 1, int(step or 1)))
        except ValueError:
            raise Rejected(f"{term!r} cannot be read") from None
    if not values or min(values) < low or max(values) > high:
        raise Rejected(f"{text!r} is not between {low} and {high}")
    return sorted(values)


def _weekdays(text: str) -> tuple[str, list[str]]:
    """Days of the week, of which Sunday is 1 there, by their names; and what to tell about them."""
    if text in {"?", "*"}:
        return "*", []
    terms: list[str] = []
    for term in text.split(","):
        if term == "L":
            terms.append("SAT")
        elif term.endswith("L"):
            terms.append(f"{_weekday(term[:-1])}L")
        elif "#" in term:
            day, _, place = term.partition("#")
            terms.append(f"{_weekday(day)}#{place}")
        else:
            terms += _several(term)
    said = ",".join(terms)
    return said, [f"days of the week count from Sunday = 1 there: {text} is {said}"] if re.search(r"\d", text) else []


def _several(term: str) -> list[str]:
    body, slash, step_text = term.partition("/")
    if slash and (not _NUMBER.fullmatch(step_text) or int(step_text) == 0):
        raise Rejected(f"day of week: {term!r} has no step such as 2")
    step = int(step_text) if slash else 1
    if body == "*":
        return list(_DAYS[::step])
    first, dash, last = body.partition("-")
    begin = _DAYS.index(_weekday(first))
    end = _DAYS.index(_weekday(last)) if dash else (6 if slash else begin)
    if end < begin:
        end += 7
    return [_DAYS[day % 7] for day in range(begin, end + 1, step)]


def _weekday(text: str) -> str:
    if text in _DAYS:
        return text
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= 7:
        raise Rejected(f"day of week: {text!r} is not 1 (Sunday) to 7, and no name such as MON")
    return _DAYS[int(text) - 1]


def _bounds(year: str) -> dict[str, Any]:
    if year in {"*", "?"}:
        return {}
    match = _YEARS.fullmatch(year)
    if match is None:
        raise Rejected(f"year: {year!r} is neither one year nor a range of years; make a schedule for each")
    return {"start": f"{match[1]}-01-01T00:00:00", "end": f"{match[2] or match[1]}-12-31T23:59:59"}
