"""Which extensions a leader has."""

from __future__ import annotations

from collections.abc import Callable

from rota_server.apps.scheduler.extensions.alerts import AlertsExtension
from rota_server.apps.scheduler.extensions.deliveries import DeliveriesExtension
from rota_server.apps.scheduler.extensions.dependencies import DependenciesExtension
from rota_server.apps.scheduler.extensions.extension import Extension, TermContext
from rota_server.apps.scheduler.extensions.limits import LimitsExtension
from rota_server.apps.scheduler.extensions.schedules import SchedulesExtension
from rota_server.apps.scheduler.extensions.triggers import TriggersExtension
from rota_server.apps.scheduler.extensions.workflows import WorkflowsExtension

EXTENSIONS: tuple[Callable[[TermContext], Extension], ...] = (
    LimitsExtension,
    DependenciesExtension,
    WorkflowsExtension,
    TriggersExtension,
    SchedulesExtension,
    DeliveriesExtension,
    AlertsExtension,
)
"""Makes the extensions of a leader, in order; each attaches itself to the leader's state."""
