"""Tasks and client for Rota, the job scheduler whose job state is an append-only event log."""

from rota.async_client import AsyncClient, AsyncJobHandle
from rota.client import Client, JobHandle
from rota.context import JobContext, current_job
from rota.errors import (
    Conflict,
    JobFailed,
    NoRetry,
    NotAllowed,
    NotFound,
    Refused,
    RotaError,
    TaskCancelled,
    Unreachable,
    WaitTimeout,
)
from rota.inbox import aenqueue, enqueue
from rota.jobs import Job, job
from rota.schedules import Schedule
from rota.tasks import Task, task

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "Conflict",
    "Job",
    "JobContext",
    "JobFailed",
    "JobHandle",
    "NoRetry",
    "NotAllowed",
    "NotFound",
    "Refused",
    "RotaError",
    "Schedule",
    "Task",
    "TaskCancelled",
    "Unreachable",
    "WaitTimeout",
    "aenqueue",
    "current_job",
    "enqueue",
    "job",
    "task",
]
