"""Fields that are stored only where they say something: earlier versions of Rota refuse fields that they do not know.

So while versions run side by side, the older ones read everything that does not use what they lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rota_server.domain.events import Event
from rota_server.domain.jobs.events import AttemptLost, JobSubmitted
from rota_server.domain.jobs.retry import DEFAULT_MAX_LOSSES, RetryPolicy
from rota_server.domain.jobs.spec import JobSpec

_LATER: Mapping[type[Any], tuple[str, Any]] = {
    RetryPolicy: ("max_losses", DEFAULT_MAX_LOSSES),
    JobSpec: ("idempotent", False),
    AttemptLost: ("handed_back", False),
}
"""The field of a class that came later, and the value that is not stored."""

WITH_LATER_FIELDS: frozenset[type[Event]] = frozenset({JobSubmitted, AttemptLost})
"""The events in which they are found."""

_NAMES: dict[type[Any], tuple[str, ...]] = {}


def shallow(value: Any) -> dict[str, Any]:
    """A dataclass as the JSON object that is stored for it; what it contains is as it is."""
    kind = type(value)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    stored = {name: getattr(value, name) for name in names}
    later = _LATER.get(kind)
    if later is not None and stored[later[0]] == later[1]:
        del stored[later[0]]
    return stored


def without_defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """The same of a whole specification that is a JSON object already, as resources keep it."""
    retry = dict(spec["retry"])
    if retry.get("max_losses") == DEFAULT_MAX_LOSSES:
        del retry["max_losses"]
    kept = {**spec, "retry": retry}
    if not kept.get("idempotent"):
        kept.pop("idempotent", None)
    return kept
