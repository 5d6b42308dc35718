"""Tasks and client for Rota, the job scheduler whose job state is an append-only event log."""

from rota.async_client import AsyncClient, AsyncJobHandle
from rota.client import Client
from rota.context import JobContext, current_job
from rota.current import configure
from rota.errors import (
    Conflict,
    GroupFailed,
    JobFailed,
    Mismatch,
    NoRetry,
    NotAllowed,
    NotFound,
    NotJson,
    Refused,
    Retry,
    RotaError,
    TaskCancelled,
    Unreachable,
    WaitTimeout,
)
from rota.groups import AsyncGroupHandle, Group, GroupHandle, Workflow
from rota.inbox import aenqueue, enqueue
from rota.jobs import Job, job
from rota.schedules import Schedule
from rota.secrets import secret
from rota.submitting import JobHandle
from rota.tasks import Task, task
from rota.webhooks import WebhookInvalid, WebhookSecretUnusable, verify_webhook

__all__ = [
    "AsyncClient",
    "AsyncGroupHandle",
    "AsyncJobHandle",
    "Client",
    "Conflict",
    "Group",
    "GroupFailed",
    "GroupHandle",
    "Job",
    "JobContext",
    "JobFailed",
    "JobHandle",
    "Mismatch",
    "NoRetry",
    "NotAllowed",
    "NotFound",
    "NotJson",
    "Refused",
    "Retry",
    "RotaError",
    "Schedule",
    "Task",
    "TaskCancelled",
    "Unreachable",
    "WaitTimeout",
    "WebhookInvalid",
    "WebhookSecretUnusable",
    "Workflow",
    "aenqueue",
    "configure",
    "current_job",
    "enqueue",
    "job",
    "secret",
    "task",
    "verify_webhook",
]
