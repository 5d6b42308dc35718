"""The examples of docs/schedules.md, section "When", as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rota_server.domain.recurrence import limits
from rota_server.domain.recurrence.calendars import parse_calendar
from rota_server.domain.recurrence.instants import parse_instant
from rota_server.domain.recurrence.preview import preview
from rota_server.domain.recurrence.timing import parse_timing

PAGE = (Path(__file__).parents[3] / "docs" / "schedules.md").read_text(encoding="utf-8")
WHEN = next(part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith("When\n"))
BLOCKS: list[dict[str, Any]] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", WHEN, re.DOTALL)]
REQUESTS = [index for index, block in enumerate(BLOCKS) if "after" in block]
CALENDARS = [block for block in BLOCKS if "dates" in block]


def test_each_example_is_a_calendar_or_a_request_with_its_answer() -> None:
    assert len(REQUESTS) >= 6
    assert len(BLOCKS) == 2 * len(REQUESTS) + len(CALENDARS)


@pytest.mark.parametrize("index", REQUESTS)
def test_a_request_has_the_answer_that_follows_it(index: int) -> None:
    request, answer = BLOCKS[index], BLOCKS[index + 1]
    spec = {name: value for name, value in request.items() if name != "count"}
    calendars = [parse_calendar({**CALENDARS[0], "name": name}) for name in request.get("calendars", [])]
    timing = parse_timing(spec, calendars)
    ticks = preview(timing, parse_instant(request["after"], "after"), request["count"])
    assert {"timezone": timing.timezone, "ticks": ticks} == answer


def test_the_table_of_rules_holds_rules() -> None:
    rows = re.findall(r"^\| `(cron|every|rrule|at)` \| `(.*?)` \|", WHEN, re.MULTILINE)
    assert [kind for kind, _ in rows] == ["cron", "every", "rrule", "at"]
    for kind, value in rows:
        parse_timing({kind: json.loads(value)})


def test_the_limits_that_are_told_are_the_limits() -> None:
    told = set(re.findall(r"\d[\d,]*", WHEN.split("### Limits")[1]))
    for limit in (
        limits.CRON_TEXT_MAXIMUM,
        limits.CRON_TERMS_MAXIMUM,
        limits.RRULE_TEXT_MAXIMUM,
        limits.EXDATES_MAXIMUM,
        limits.RRULE_COUNT_MAXIMUM,
        limits.CALENDARS_MAXIMUM,
        limits.CALENDAR_DATES_MAXIMUM,
        limits.CALENDAR_WINDOWS_MAXIMUM,
        limits.PREVIEW_MAXIMUM,
    ):
        assert f"{limit:,}" in told
