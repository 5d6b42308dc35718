"""A calendar is worked out beside the loop, and a new one within a bound of time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from rota_server.apps.calendar_reading import read_calendar
from rota_server.domain.errors import Rejected
from tests.waiting import until

HOURS = ",".join(str(hour) for hour in range(24))
HEAVY = f"RRULE:FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR={HOURS};BYSETPOS=-1;COUNT=100"


def file(events: int, rule: str = HEAVY) -> str:
    """A small file whose COUNTs take half a minute to be counted out, if nobody ends that."""
    event = f"BEGIN:VEVENT\nUID:{{}}\nDTSTART;TZID=Europe/Berlin:20260101T090000\nDURATION:PT1H\n{rule}\nEND:VEVENT"
    return "\n".join(["BEGIN:VCALENDAR", *(event.format(number) for number in range(events)), "END:VCALENDAR", ""])


@pytest.mark.parametrize("skip_invalid", [True, False])
async def test_a_file_that_takes_too_long_is_refused_and_the_loop_goes_on(skip_invalid: bool) -> None:  # noqa: FBT001
    definition = {"icalendar": file(200), "skip_invalid": skip_invalid}
    reading = asyncio.ensure_future(read_calendar(definition, limit_seconds=0.5))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0.01)
    with pytest.raises(Rejected, match=r"more than 0\.5 s") as refused:
        reading.result()
    assert (refused.value.code, refused.value.field) == ("too-much-work", "icalendar")
    assert turns > 5, "the loop was held"


async def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    reading = asyncio.ensure_future(read_calendar({"icalendar": file(200)}))
    await asyncio.sleep(0)
    began = time.monotonic()
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    # The next one shares its thread, and would wait for half a minute.
    calendar = await read_calendar({"icalendar": file(1, "SUMMARY:Party")}, "parties")
    assert calendar.name == "parties"
    assert time.monotonic() - began < 20


async def test_a_calendar_without_a_bound_is_worked_out_to_its_end() -> None:
    calendars = [asyncio.ensure_future(read_calendar({"icalendar": file(3)})) for _ in range(2)]
    await until(lambda: all(one.done() for one in calendars))
    assert [len(one.result().events.recurring) for one in calendars] == [3, 3]
