"""What executors say of themselves among the members, and who can take what by that. Pure.

Every process reads it with these functions, so that a store's explanation and a leader's decision never differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rota_server.domain.ports.coordination import Member


def serves(info: Mapping[str, Any], queue: str) -> bool:
    """Whether an executor that says this takes work of the queue. One that drains takes none any more."""
    return not info.get("draining") and queue in info.get("queues", ())


def knows(info: Mapping[str, Any], task: str) -> bool:
    """Whether an executor that says this has the task. An older one may lack a built-in one, too."""
    return task in info.get("tasks", ())


class Abilities:
    """Which tasks the living executors can run for each queue."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._tasks: dict[str, set[str]] = {}
        for member in members:
            if member.info.get("draining"):
                continue
            for queue in member.info.get("queues", ()):
                self._tasks.setdefault(queue, set()).update(member.info.get("tasks", ()))

    def same_as(self, other: Abilities) -> bool:
        """Whether nothing has changed."""
        return self._tasks == other._tasks

    def lacks(self, queue: str, task: str) -> bool:
        """Whether somebody works on the queue, and none of them has the task."""
        return queue in self._tasks and task not in self._tasks[queue]
