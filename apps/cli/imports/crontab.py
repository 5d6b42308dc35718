"""Reads crontabs as cron does (crontab(5) of Debian's cron and of cronie). Pure: text in, entries and problems out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.cron import parse_cron, surprise
from rota_server.domain.recurrence.limits import JITTER_SECONDS_MAXIMUM
from rota_server.domain.recurrence.zones import parse_zone_name

ASSIGNMENT = re.compile(r"""("[^"]*"|'[^']*'|[^\s=]+)[ \t]*=[ \t]*(.*)""", re.DOTALL)
WORD = re.compile(r"(\S+)[ \t]*")
UNESCAPED_PERCENT = re.compile(r"(?<!\\)%")
NOT_PASSED_ON = frozenset({"CRON_TZ", "MAILTO", "MAILFROM", "SHELL", "LOGNAME", "CONTENT_TYPE", "RANDOM_DELAY"})
FLAGS = re.compile(r"-([nqs]+)(?:[ \t]+|$)")
RANDOM = re.compile(r"(\d{0,2})~(\d{0,2})", re.ASCII)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
DEFAULT_SHELL = "sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one line runs. `rule` is a cron expression, `notes` what people should know, `comment` what stood above.

    `policies`: further fields of the schedule.
    """

    line: int
    rule: str
    command: str
    stdin: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    shell: str = DEFAULT_SHELL
    timezone: str | None = None
    user: str | None = None
    comment: str = ""
    notes: tuple[str, ...] = ()
    policies: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A line that does not become a schedule, and why."""

    line: int
    text: str
    reason: str


@dataclass(slots=True)
class _Surroundings:
    """What the lines above say about the ones below."""

    env: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def parse_crontab(data: bytes, *, system: bool = False) -> tuple[list[Entry], list[Problem]]:
    """The entries and the problems of a crontab, in order. `system`: the sixth field of an entry is a user."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    above = _Surroundings()
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            text = raw.decode().removesuffix("\r").lstrip(" \t")
        except UnicodeDecodeError:
            problems.append(Problem(line=number, text=repr(raw), reason="the line is not UTF-8"))
            continue
        if not text.rstrip():
            above.comments.clear()
        elif text.startswith("#"):
            above.comments.append(text.lstrip("#").strip())
        elif (assigned := ASSIGNMENT.fullmatch(text)) is not None:
            above.env[_unquoted(assigned[1])] = _unquoted(assigned[2].rstrip())
            above.comments.clear()
        else:
            try:
                entries.append(_entry(number, text, above, system=system))
            except Rejected as error:
                problems.append(Problem(line=number, text=text, reason=error.message))
            above.comments.clear()
    return entries, problems


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _entry(number: int, text: str, above: _Surroundings, *, system: bool) -> Entry:
    notes = []
    if text.startswith("-"):
        text = text[1:]
        notes.append("cron was told not to log it; Rota keeps the history of every job")
    words = 1 if text.startswith("@") else 5
    fields, rest = _split(text, words)
    rule = " ".join(fields)
    if rule.lower() == "@reboot":
        raise Rejected("@reboot is no time: a schedule knows no machine's start. Start it by the machine's own means")
    if len(fields) < words:
        raise Rejected(f"{len(fields)} fields; an entry has five for the time, and a command")
    rule, random_notes = _chosen(rule)
    told = surprise(parse_cron(rule))
    notes += [*random_notes, *([told] if told else [])]
    policies, policy_notes = _delay(above.env)
    user = None
    if system:
        names, rest = _split(rest, 1)
        user = names[0] if names else None
        if user is not None:
            notes.append(f"ran as {user}; Rota runs it as the user of the executor")
    rest, flag_policies, flag_notes = _flags(rest)
    notes += [*policy_notes, *flag_notes]
    command, stdin = _command(rest)
    if not command.strip():
        raise Rejected("there is no command" + (" behind the user" if system else ""))
    timezone, zone_notes = _timezone(above.env)
    return Entry(
        line=number,
        rule=rule,
        command=command,
        stdin=stdin,
        env={name: value for name, value in above.env.items() if name not in NOT_PASSED_ON},
        shell=above.env.get("SHELL") or DEFAULT_SHELL,
        timezone=timezone,
        user=user,
        comment="\n".join(line for line in above.comments if line),
        notes=(*notes, *zone_notes, *_mail(above.env)),
        policies={**policies, **flag_policies},
    )


def _split(text: str, count: int) -> tuple[list[str], str]:
    """So many words, and what follows them."""
    words: list[str] = []
    at = 0
    while len(words) < count and (found := WORD.match(text, at)) is not None:
        words.append(found[1])
        at = found.end()
    return words, text[at:]


def _flags(text: str) -> tuple[str, dict[str, Any], list[str]]:
    """What stands before the command: `-n`, `-q`, `-s` of cronie and of OpenBSD's cron, apart or together."""
    flags = ""
    while (found := FLAGS.match(text)) is not None:
        flags += found[1]
        text = text[found.end() :]
    notes = []
    if "n" in flags:
        notes.append("-n: cron mailed its output only when it failed; Rota keeps what it prints as the job's log")
    if "q" in flags:
        notes.append("-q: cron did not log it; Rota keeps the history of every job")
    if "s" in flags:
        notes.append("-s: a time is skipped while a run lasts")
    return text, {"overlap": "skip"} if "s" in flags else {}, notes


def _delay(env: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """RANDOM_DELAY of cronie, in minutes."""
    text = env.get("RANDOM_DELAY")
    if not text:
        return {}, []
    if not text.isascii() or not text.isdigit() or int(text) * 60 > JITTER_SECONDS_MAXIMUM:
        return {}, [f"RANDOM_DELAY={text[:20]} is no number of minutes up to a day, and does nothing"]
    seconds = int(text) * 60
    note = f"RANDOM_DELAY: each start is delayed by up to {seconds} s, though never to the next time or beyond"
    return ({"jitter": seconds}, [note]) if seconds else ({}, [])


def _chosen(rule: str) -> tuple[str, list[str]]:
    """The rule with one value for each `low~high`, which cronie chooses by chance: the same for the same rule."""
    words = rule.split()
    if "~" not in rule or len(words) != len(RANGES):
        return rule, []
    for place, (low, high) in enumerate(RANGES):
        terms = words[place].split(",")
        for index, term in enumerate(terms):
            if "~" not in term:
                continue
            found = RANDOM.fullmatch(term)
            first, last = (int(found[1] or low), int(found[2] or high)) if found is not None else (1, 0)
            if not low <= first <= last <= high:
                raise Rejected(f"{term[:20]!r} is no range to choose from, such as 0~30")
            digest = hashlib.blake2b(f"{rule}|{place}|{index}".encode(), digest_size=8).digest()
            terms[index] = str(first + int.from_bytes(digest) % (last - first + 1))
        words[place] = ",".join(terms)
    chosen = " ".join(words)
    return chosen, [f"cron chose the time of {rule} by chance; here it is {chosen}"]


def _command(text: str) -> tuple[str, str | None]:
    """The command, and after the first unescaped `%` what it reads, in which further ones are line ends."""
    command, *lines = UNESCAPED_PERCENT.split(text)
    command = command.replace(r"\%", "%")
    if not lines:
        return command, None
    return command, "".join(line.replace(r"\%", "%") + "\n" for line in lines)


def _timezone(env: dict[str, str]) -> tuple[str | None, list[str]]:
    for name in ("CRON_TZ", "TZ"):
        if env.get(name):
            zone = parse_zone_name(env[name].removeprefix(":"), name)
            return zone, [] if name == "CRON_TZ" else ["TZ stands for the zone of its times, too"]
    return None, []


def _mail(env: dict[str, str]) -> Sequence[str]:
    address: Any = env.get("MAILTO")
    if address is None:
        return ()
    kept = "Rota keeps what it prints as the job's log"
    return (f"its output was mailed to {address}; {kept}",) if address else (f"its output was thrown away; {kept}",)
