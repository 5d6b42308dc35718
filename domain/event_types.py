"""Brings all events into the registry: whoever decodes events imports this."""

from domain import events, queues, trigger_events
from domain.schedules import events as schedules

__all__ = ["events", "queues", "schedules", "trigger_events"]
