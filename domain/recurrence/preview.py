"""What a schedule would do, for a person to read before it does it."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.instants import utc_text
from rota_server.domain.recurrence.limits import PREVIEW_MAXIMUM
from rota_server.domain.recurrence.times import Nominal, nominal_times
from rota_server.domain.recurrence.timing import Timing


def preview(timing: Timing, after: datetime, count: int) -> list[dict[str, Any]]:
    """The next `count` nominal times strictly after `after`, skipped ones included. Raises Rejected for the count."""
    if not 1 <= count <= PREVIEW_MAXIMUM:
        raise Rejected(f"a preview has 1 to {PREVIEW_MAXIMUM} times", field="count", code="count")
    return [as_json(nominal) for nominal in islice(nominal_times(timing, after), count)]


def as_json(nominal: Nominal) -> dict[str, Any]:
    """One nominal time on the schedule's clock and in UTC, and what becomes of it; `run_at` where jitter moves it."""
    shown = {
        "at": nominal.local,
        "utc": utc_text(nominal.at),
        "outcome": nominal.outcome,
        "reason": nominal.reason,
        "note": nominal.note,
    }
    if nominal.run_at != nominal.at:
        shown["run_at"] = utc_text(nominal.run_at)
    return shown
