"""Single Python values that JSON lacks, made of what stands for them there."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Callable, Dict, Tuple
from uuid import UUID

from rota.errors import Mismatch

Converter = Callable[[Any], Any]

_FRACTION = re.compile(r"\.(\d+)")


def shown(value: Any) -> str:
    """The value in a message, of bounded length."""
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."


def from_json(kinds: "Tuple[type, ...]", name: str, make: Converter) -> Converter:
    """A converter of JSON values of these types; `make` may raise ValueError."""

    def convert(value: Any) -> Any:
        if type(value) in kinds:
            try:
                return make(value)
            except (ValueError, OverflowError, InvalidOperation):
                pass
        raise Mismatch(f"{shown(value)} is no {name}")

    return convert


def _iso(text: str) -> str:
    """As Python before 3.11 reads it: no Z, three or six digits of fraction."""
    if text[-1:] in ("Z", "z"):
        text = text[:-1] + "+00:00"
    return _FRACTION.sub(lambda match: "." + match.group(1)[:6].ljust(6, "0"), text, count=1)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


LEAVES: "Dict[Any, Converter]" = {
    datetime: from_json((str,), "date and time in ISO 8601", lambda text: datetime.fromisoformat(_iso(text))),
    date: from_json((str,), "date in ISO 8601", date.fromisoformat),
    time: from_json((str,), "time of day in ISO 8601", lambda text: time.fromisoformat(_iso(text))),
    timedelta: from_json((int, float), "number of seconds", lambda number: timedelta(seconds=number)),
    Decimal: from_json((str, int, float), "decimal number", lambda value: Decimal(str(value))),
    UUID: from_json((str,), "UUID", UUID),
    bytes: from_json((str,), "text in base64", _bytes),
    bytearray: from_json((str,), "text in base64", lambda text: bytearray(_bytes(text))),
}
