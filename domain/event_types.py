"""Brings all events into the registry: whoever decodes events imports this."""

from rota_server.domain.admission import queues
from rota_server.domain.jobs import events as jobs
from rota_server.domain.schedules import events as schedules
from rota_server.domain.subscriptions import events as subscriptions
from rota_server.domain.triggers import events as triggers
from rota_server.domain.workflows import workflow

__all__ = ["jobs", "queues", "schedules", "subscriptions", "triggers", "workflow"]
