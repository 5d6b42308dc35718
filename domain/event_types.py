"""Brings all events into the registry: whoever decodes events imports this."""

from domain.admission import queues
from domain.jobs import events as jobs
from domain.schedules import events as schedules
from domain.subscriptions import events as subscriptions
from domain.triggers import events as triggers
from domain.workflows import workflow

__all__ = ["jobs", "queues", "schedules", "subscriptions", "triggers", "workflow"]
