"""A job as it was asked for. Values are checked where they enter; here they only have types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from domain.retry import RetryPolicy

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""How long one attempt may take when the job does not say; `None` in a job means no limit."""

DEFAULT_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What to run, where, when, and how patiently.

    `run_at`: not before this instant, None for at once. `timeout_seconds` limits one attempt. No attempt
    starts at or after `expires_at`. `args` is a JSON object.
    """

    task: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: Priority = "normal"
    run_at: datetime | None = None
    timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS
    expires_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    retry: RetryPolicy = DEFAULT_RETRY
