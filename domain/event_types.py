"""Brings all events into the registry: whoever decodes events imports this."""

from domain import events, queues

__all__ = ["events", "queues"]
