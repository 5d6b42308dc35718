"""Which extensions a leader has."""

from __future__ import annotations

from collections.abc import Callable

from apps.scheduler.extensions.alerts import AlertService
from apps.scheduler.extensions.deliveries import DeliveryService
from apps.scheduler.extensions.dependencies import DependencyService
from apps.scheduler.extensions.extension import Extension, Office
from apps.scheduler.extensions.limits import Limits
from apps.scheduler.extensions.schedules import Schedules
from apps.scheduler.extensions.triggers import Triggers
from apps.scheduler.extensions.workflows import GroupService

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
