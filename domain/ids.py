"""The numbers and names that identify things, each with its own type so that they cannot be mixed up."""

from __future__ import annotations

from typing import NewType
from uuid import UUID, uuid5

Position = NewType("Position", int)
"""A place in the whole log; dense, from 1."""

Version = NewType("Version", int)
"""A place in one stream; dense, from 1. 0 stands for a stream that does not exist yet."""

Term = NewType("Term", int)
"""A period of leadership; later leaders have greater terms."""

NAMESPACE = UUID("5f3c0f3e-6f0a-5c57-9d0b-7a0f5b0d8c11")
"""The namespace of all ids that Rota derives (UUIDv5)."""


def job_id_from_key(idempotency_key: str) -> UUID:
    """The id of the job that was or will be submitted under this idempotency key."""
    return uuid5(NAMESPACE, f"idempotency-key:{idempotency_key}")


def resource_id(kind: str, name: str) -> UUID:
    """The stream of the schedule, queue, trigger ... with this name."""
    return uuid5(NAMESPACE, f"{kind}:{name}")


def event_stream_id(source: str, event_id: str) -> UUID:
    """The stream that holds one published event; the pair is unique by CloudEvents' rules."""
    return uuid5(NAMESPACE, f"published-event:{source}\x1f{event_id}")
