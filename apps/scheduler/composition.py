"""Which extensions a leader has."""

from __future__ import annotations

from collections.abc import Callable

from apps.scheduler.alerts import AlertService
from apps.scheduler.deliveries import DeliveryService
from apps.scheduler.dependencies import DependencyService
from apps.scheduler.extensions import Extension, Office
from apps.scheduler.groups import GroupService
from apps.scheduler.limits import Limits
from apps.scheduler.schedules import Schedules
from apps.scheduler.triggers import Triggers

EXTENSIONS: tuple[Callable[[Office], Extension], ...] = (
    Limits,
    DependencyService,
    GroupService,
    Triggers,
    Schedules,
    DeliveryService,
    AlertService,
)
"""Makes the extensions of a leader, in order; each attaches itself to the office's brain."""
