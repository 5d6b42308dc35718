"""Which extensions a leader has."""

from __future__ import annotations

from collections.abc import Callable

from apps.scheduler.extensions.alerts import AlertsExtension
from apps.scheduler.extensions.deliveries import DeliveriesExtension
from apps.scheduler.extensions.dependencies import DependenciesExtension
from apps.scheduler.extensions.extension import Extension, TermContext
from apps.scheduler.extensions.limits import LimitsExtension
from apps.scheduler.extensions.schedules import SchedulesExtension
from apps.scheduler.extensions.triggers import TriggersExtension
from apps.scheduler.extensions.workflows import WorkflowsExtension

EXTENSIONS: tuple[Callable[[TermContext], Extension], ...] = (
    LimitsExtension,
    DependenciesExtension,
    WorkflowsExtension,
    TriggersExtension,
    SchedulesExtension,
    DeliveriesExtension,
    AlertsExtension,
)
"""Makes the extensions of a leader, in order; each attaches itself to the office's brain."""
