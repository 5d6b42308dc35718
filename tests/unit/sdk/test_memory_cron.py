"""The cron lines that MemoryClient knows tick when the store's do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from rota.testing.cron import Cron
from rota_server.domain.recurrence.timing import next_time, parse_timing

LINES = [
    "15 2 * * *",
    "30 1,2 * * *",
    "*/20 * * * *",
    "5 */2 * * *",
    "0 9-17/4 * * mon-fri",
    "0 12 13 * 5",
    "0 12 */10 * 5",
    "59 23 28-31 feb,oct,mar *",
    "45 0 29 2 *",
    "10/25 3 * * sun",
    "* 2 * 3,10,11 0",
    "0 0 1 jan *",
    "@weekly",
    "@hourly",
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/St_Johns"]
TIMES = 25


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("line", LINES)
def test_a_line_ticks_when_the_store_says(line: str, zone: str) -> None:
    timing, cron = parse_timing({"cron": line, "timezone": zone}), Cron(line, ZoneInfo(zone))
    for start in (
        datetime(2026, 3, 7, 12, tzinfo=UTC),
        datetime(2026, 3, 28, 20, tzinfo=UTC),
        datetime(2026, 4, 4, 3, tzinfo=UTC),
        datetime(2026, 10, 24, 22, 30, tzinfo=UTC),
        datetime(2026, 10, 31, 22, tzinfo=UTC),
    ):
        at = start
        for _ in range(TIMES):
            nominal = next_time(timing, at)
            assert nominal is not None
            assert cron.after(at) == nominal.at
            at = nominal.at
            if at > start + timedelta(days=400):
                break


@pytest.mark.parametrize("line", ["0 9 L * *", "0 9 * * 1#2", "0 0 9 * * *", "0 9 15W * *"])
def test_a_line_that_it_does_not_know_is_refused_by_name(line: str) -> None:
    with pytest.raises(NotImplementedError, match="cron: MemoryClient knows"):
        Cron(line, UTC)


@pytest.mark.parametrize("line", ["60 * * * *", "0 25 * * *", "0 9 * foo *"])
def test_a_line_that_means_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="cron: "):
        Cron(line, UTC)
