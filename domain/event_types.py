"""Brings all events into the registry: whoever decodes events imports this."""

from domain import events, groups, queues, subscription_events, trigger_events
from domain.schedules import events as schedules

__all__ = ["events", "groups", "queues", "schedules", "subscription_events", "trigger_events"]
