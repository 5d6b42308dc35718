"""Instants as integers (micro)seconds since 1970, and as text. Times are computed in integers: exact, and fast."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from rota_server.domain.errors import Rejected
from rota_server.domain.recurrence.limits import FIRST_YEAR, LAST_YEAR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_ORDINAL = EPOCH.toordinal()
DAY = 86_400
MICROS = 1_000_000

FIRST_SECOND = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
END_SECOND = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_TEXT_MAXIMUM = 40


def micros_of(instant: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def instant_of(micros: int) -> datetime:
    """The aware datetime in UTC of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def parse_instant(value: Any, field: str) -> datetime:
    """An RFC 3339 instant with offset, or an aware datetime, in UTC. Raises Rejected naming `field`.

    What is finer than a microsecond is left out.
    """
    instant = value if isinstance(value, datetime) else _read(value, field)
    if instant.tzinfo is None:
        raise Rejected("an instant needs an offset, such as +01:00 or Z", field=field, code="instant")
    try:
        instant = instant.astimezone(UTC)
    except OverflowError:
        raise _out_of_range(field) from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise _out_of_range(field)
    return instant


def utc_text(instant: datetime) -> str:
    """RFC 3339 with Z."""
    return instant.replace(tzinfo=None).isoformat() + "Z"


def _read(value: Any, field: str) -> datetime:
    if not isinstance(value, str):
        raise Rejected("an instant is a string in RFC 3339 form", field=field, code="instant")
    value = value.strip()
    if len(value) > _TEXT_MAXIMUM or not _INSTANT.fullmatch(value):
        raise Rejected(
            f"{value[:_TEXT_MAXIMUM]!r} is no instant in RFC 3339 form with an offset, "
            "such as 2027-01-01T09:00:00+01:00",
            field=field,
            code="instant",
        )
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise Rejected(f"{value!r} is no possible instant: {error}", field=field, code="instant") from None


def _out_of_range(field: str) -> Rejected:
    return Rejected(f"an instant lies in the years {FIRST_YEAR} to {LAST_YEAR}", field=field, code="instant")
