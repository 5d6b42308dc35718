"""Brings all events into the registry: whoever decodes events imports this."""

from domain import events, queues, trigger_events

__all__ = ["events", "queues", "trigger_events"]
