"""Fields that several resources share: names, instants, numbers, keys, and how a wrong one is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from rota_server.apps.store.http.json_body import shown
from rota_server.domain.errors import Rejected

KEY_PATTERN = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

WITHOUT_OFFSET = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?)?", re.ASCII)


def parse_instant(value: Any) -> Any:
    """An RFC 3339 text with an offset as an instant."""
    if not isinstance(value, str):
        raise ValueError("must be a text in RFC 3339, such as 2027-01-01T09:00:00+01:00")  # noqa: TRY004 - pydantic's
    if not RFC3339.fullmatch(value):
        if WITHOUT_OFFSET.fullmatch(value):
            raise ValueError("needs an offset, such as Z or +01:00")
        raise ValueError("must be an instant in RFC 3339 with an offset, such as 2027-01-01T09:00:00+01:00")
    instant = datetime.fromisoformat(value.upper())
    if not 2000 <= instant.year <= 2200:
        raise ValueError("must lie between the years 2000 and 2200")
    return instant


Instant = Annotated[datetime, BeforeValidator(parse_instant)]

NAME = r"^[A-Za-z0-9._-]{1,100}$"

TASK_NAME = r"^[A-Za-z_][A-Za-z0-9_.:<>-]{0,199}$"

TAG_NAME = r"^[A-Za-z0-9._/-]{1,64}$"

PRINTABLE = r"^[^\x00-\x1f\x7f]{1,200}$"

Name = Annotated[str, StringConstraints(pattern=NAME)]

TaskName = Annotated[str, StringConstraints(pattern=TASK_NAME)]

TagName = Annotated[str, StringConstraints(pattern=TAG_NAME)]

TagValue = Annotated[str, StringConstraints(max_length=256)]

JobKey = Annotated[str, StringConstraints(pattern=PRINTABLE)]

Number = Annotated[float, Field(allow_inf_nan=False)]


def rejected(error: ValidationError) -> Rejected:
    """The refusal that names the first wrong field."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = shown(".".join(str(part) for part in first["loc"] if part != "[key]"))
    message = _said(first["type"], first.get("ctx", {}), str(first["msg"]).removeprefix("Value error, "))
    code = {"extra_forbidden": "unknown-field", "missing": "missing"}.get(first["type"], "invalid-argument")
    if code == "unknown-field":
        message = "there is no such field"
    return Rejected(f"{path}: {message}" if path else message, field=path or None, code=code)


PATTERNS = {
    NAME: "must have 1 to 100 letters, digits, '.', '_' and '-'",
    TASK_NAME: "must begin with a letter or '_', and have up to 200 letters, digits and '_.:<>-'",
    TAG_NAME: "must have 1 to 64 letters, digits, '.', '_', '/' and '-'",
    PRINTABLE: "must have 1 to 200 printable characters",
}

OBJECTS = frozenset({"model_type", "dict_type"})


def _said(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What is wrong in words that do not speak of classes and regular expressions."""
    if kind in OBJECTS:
        return "must be a JSON object"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], message)
    return message


def check_key(key: str | None) -> str | None:
    """A usable idempotency key. Raises Rejected."""
    if key is not None and not KEY_PATTERN.fullmatch(key):
        message = "Idempotency-Key: must have 1 to 255 printable ASCII characters"
        raise Rejected(message, field="Idempotency-Key", code="invalid-argument")
    return key


def digest_of(value: Any) -> str:
    """What two equal requests have in common, whatever the order of their fields."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
