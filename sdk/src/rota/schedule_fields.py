"""What a schedule may be created and changed with, for type checkers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Mapping, Optional, Sequence, TypedDict, Union

When = Union[str, datetime]
"""An instant, or a datetime or text without a zone that is meant on the schedule's clock."""


class ScheduleFields(TypedDict, total=False):
    """The fields of a schedule, apart from its name and its job; docs/schedules.md says what they mean."""

    cron: Union[str, Sequence[str], None]
    every: Optional[float]
    rrule: Optional[str]
    at: Optional[Sequence[When]]
    phase: Optional[When]
    timezone: Optional[str]
    gap: Optional[Literal["shift", "skip"]]
    fold: Optional[Literal["first", "last", "both"]]
    start: Optional[When]
    end: Optional[When]
    count: Optional[int]
    jitter: Optional[float]
    calendars: Optional[Sequence[str]]
    overlap: Optional[str]
    catch_up: Optional[Mapping[str, Any]]
    tags: Optional[Mapping[str, str]]
    owner: Optional[str]
    notes: Optional[str]


class ScheduleChanges(ScheduleFields, total=False):
    """What of a schedule may change."""

    job: Any
    name: str
