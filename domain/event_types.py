"""Brings all events into the registry: whoever decodes events imports this."""

from domain import events, groups, queues, trigger_events
from domain.schedules import events as schedules

__all__ = ["events", "groups", "queues", "schedules", "trigger_events"]
