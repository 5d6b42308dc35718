"""Tasks and client for Rota, the job scheduler whose job state is an append-only event log."""

from rota.client import AsyncClient, Client, Job, JobHandle
from rota.context import JobContext, current_job
from rota.errors import JobFailed, NotFound, Refused, RotaError, TaskCancelled, Unreachable
from rota.tasks import Task, task

__all__ = [
    "AsyncClient",
    "Client",
    "Job",
    "JobContext",
    "JobFailed",
    "JobHandle",
    "NotFound",
    "Refused",
    "RotaError",
    "Task",
    "TaskCancelled",
    "Unreachable",
    "current_job",
    "task",
]
