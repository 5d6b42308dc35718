"""What the package makes of a schedule's fields before they are sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from rota import Client
from rota.schedules import Schedules


class Recording:
    """A client that keeps what it is to send."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}

    def call(self, _method: str, _path: str, **options: Any) -> dict[str, Any]:
        self.body = options["body"]
        return {"name": "x"}


def test_a_datetime_without_a_zone_is_a_reading_of_the_schedules_clock() -> None:
    client = Recording()
    start, end = datetime(2027, 6, 1, 9), datetime(2027, 6, 2, tzinfo=UTC)  # noqa: DTZ001 - a reading
    Schedules(cast("Client", client)).create("x", "a.b", cron=["0 9 * * *", "0 10 * * *"], start=start, end=end)
    assert client.body["cron"] == ["0 9 * * *", "0 10 * * *"]
    assert (client.body["start"], client.body["end"]) == ("2027-06-01T09:00:00", "2027-06-02T00:00:00+00:00")


def test_the_range_of_a_backfill_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Schedules(cast("Client", Recording())).backfill("x", datetime(2027, 6, 1), datetime(2027, 6, 2))  # noqa: DTZ001
