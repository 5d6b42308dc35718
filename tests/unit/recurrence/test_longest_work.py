"""Absurd rules: none may hold a loop for long, whatever leader and store ask about it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.counting import count_times, tail
from rota_server.domain.recurrence.timing import Timing, next_time, parse_timing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=3650)
LONGEST_SECONDS = 10.0
"""On a machine with ten other things to do; alone it is a twentieth of that. The first rule took 44 s to count."""

QUESTIONS: tuple[Callable[[Timing], object], ...] = (
    lambda timing: next_time(timing, NOW),
    lambda timing: next_time(timing, NOW + timedelta(days=36_500)),
    lambda timing: count_times(timing, NOW, LATER),
    lambda timing: tail(timing, NOW, LATER, 64),
)
PARTS = {
    "INTERVAL": (1, 2, 59, 61, 997, 86_399, 999_983, 1_000_000),
    "BYMONTH": (2, 4, 12),
    "BYMONTHDAY": ("30", "31", "-31", "29,30,31"),
    "BYDAY": ("MO", "SU,SA"),
    "BYHOUR": ("2", "0,23"),
    "BYMINUTE": ("30", "59"),
    "BYSECOND": ("59", "0,30"),
    "BYSETPOS": ("-1", "1", "366"),
    "BYYEARDAY": ("366", "-366", "1"),
    "COUNT": (1, 20_000),
}
FREQUENCIES = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WORST = (
    "FREQ=SECONDLY;INTERVAL=1000000;BYHOUR=0,23",
    "FREQ=SECONDLY;INTERVAL=61;BYSECOND=59;BYYEARDAY=1;COUNT=20000",
    "FREQ=MINUTELY;BYMONTHDAY=30;BYSETPOS=-1",
)


def absurd(seed: int) -> str:
    chosen = random.Random(seed)
    parts = [f"{name}={chosen.choice(values)}" for name, values in PARTS.items() if chosen.random() < 0.3]
    return ";".join([f"FREQ={chosen.choice(FREQUENCIES)}", *parts])


@pytest.mark.parametrize("rule", [*WORST, *(absurd(seed) for seed in range(12))])
def test_no_question_about_a_rule_takes_long(rule: str) -> None:
    began = time.perf_counter()
    try:
        timing = parse_timing({"rrule": rule, "timezone": "Europe/Berlin", "start": "2026-01-01T00:00:00Z"})
    except Rejected:
        assert time.perf_counter() - began < LONGEST_SECONDS
        return
    assert time.perf_counter() - began < LONGEST_SECONDS
    for ask in QUESTIONS:
        began = time.perf_counter()
        ask(timing)
        assert time.perf_counter() - began < LONGEST_SECONDS


@pytest.mark.parametrize("rule", WORST)
def test_what_is_counted_is_what_comes(rule: str) -> None:
    timing = parse_timing({"rrule": rule, "timezone": "Europe/Berlin", "start": "2026-01-01T00:00:00Z"})
    at, found = NOW - timedelta(seconds=1), 0
    for _ in range(300):
        following = next_time(timing, at)
        if following is None:
            break
        at, found = following.at, found + 1
        assert count_times(timing, NOW - timedelta(seconds=1), at) == found
