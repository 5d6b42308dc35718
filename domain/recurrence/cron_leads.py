"""What may be meant by a cron expression that is none: for messages that lead on."""

from __future__ import annotations

import re

_ZONE = re.compile(r"\s*(?:CRON_)?TZ=(\S+)\s", re.IGNORECASE)
_EVERY = re.compile(r"@every\s+((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)\s*", re.IGNORECASE)
_PART = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_HASH = re.compile(r"(?:^|[\s,])H(?:[\s,/(]|$)", re.IGNORECASE)
_BEFORE_LAST = re.compile(r"(?:^|[\s,])L-(\d{1,2})(?:[\s,]|$)", re.IGNORECASE)
_EVENTBRIDGE = re.compile(r"\s*(?:cron|rate|at)\(", re.IGNORECASE)
_LONG_NAME = re.compile(
    r"\b(?:(?:sun|mon|tues|wednes|thurs|fri|satur)day|(?:jan|febr)uary|march|april|june|july|august"
    r"|(?:septem|octo|novem|decem)ber)\b",
    re.IGNORECASE,
)
_SHOWN = 64


def refused(text: str, message: str) -> str:
    """The message about an expression that was refused, with what to do about it. `text` is not long."""
    instead = _instead(text)
    if instead is not None:
        return instead
    lead = _from_fields(text)
    return message if lead is None else f"{message}; {lead}"


def _instead(text: str) -> str | None:
    """The message where the expression was meant in quite another way."""
    zone = _ZONE.match(text)
    if zone is not None:
        return f"a time zone does not stand in the expression: give timezone: {zone[1][:_SHOWN]}"
    if _EVENTBRIDGE.match(text):
        return "this is a line of EventBridge, which `rota import eventbridge` reads"
    every = _EVERY.fullmatch(text)
    if every is not None:
        seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(every[1]))
        return f"an interval is not cron: give every: {seconds:g} (seconds)"
    if "\n" in text.strip():
        return "several lines are given as a list"
    return None


def _from_fields(text: str) -> str | None:
    words = text.split()
    before_last = _BEFORE_LAST.search(text)
    day = int(before_last[1]) + 1 if before_last is not None else 0
    command = any(word.startswith(("/", "./", "~/")) or "=" in word for word in words[5:])
    leads = (
        (day, f"days before the last one are a recurrence rule: give rrule: FREQ=MONTHLY;BYMONTHDAY=-{day}"),
        (command, "a command does not stand in the expression; `rota import crontab` reads whole lines"),
        (
            "?" in text,
            "? is Quartz's, write *; its Sunday is 1, here it is 0. `rota import quartz` reads its lines",
        ),
        ("~" in text, "~ is a random choice of cronie: choose a value, and spread starts by jitter"),
        (_HASH.search(text), "H is a choice of Jenkins: choose a value, and spread starts by jitter"),
        (
            len(words) == 7,
            "a year is Quartz's: give start and end. `rota import quartz` reads its lines",
        ),
        (_LONG_NAME.search(text), "names have three letters, such as MON and JAN"),
    )
    return next((lead for applies, lead in leads if applies), None)
