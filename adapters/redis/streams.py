"""The names of what Rota keeps in Redis, and how a position becomes an entry id and back.

Every stream's entry ids are positions of the log (`4711-0`), so a place in Redis and a place in the log are the
same number. The work streams' names are derived from queue and priority inside scripts' key lists, and one script
touches several of them: Redis Cluster is therefore not supported, one Redis (with replicas) is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rota_server.domain.ids import Position

FEED = "rota:feed"
CONTROL = "rota:control"
REFILL = "rota:refill"
"""Holds the token of the refill that is under way; gone as soon as Redis loses its content once more."""

GROUP = "executors"
PRIORITIES = ("high", "normal", "low")

WORK = "rota:work:"

PARKED = "parked:"
"""Begins the names of the consumers of a work stream that hold what nobody could take for want of its task.

The task's name follows; nothing, for tasks beyond PARKED_TASKS. An executor's own name never begins like this.
"""

PARKED_TASKS = 1_000
"""How many different tasks one work stream may hold parked by name."""


def work_stream(queue: str, priority: str) -> str:
    """The key of the work stream of a queue and priority."""
    return f"{WORK}{queue}:{priority}"


def work_streams(queues: Iterable[str], priorities: Sequence[str] = PRIORITIES) -> list[str]:
    """The keys of all work streams of these queues, priorities in the order given, then queues."""
    names = list(queues)
    return [work_stream(queue, priority) for priority in priorities for queue in names]


def parked_tasks(key: str) -> str:
    """The key of the set of tasks that are parked in a work stream, by the stream's key."""
    return f"rota:parked:{key.removeprefix(WORK)}"


def parked_bell(queue: str) -> str:
    """The key of the stream that grows when something of this queue is parked: whoever waits for work looks again."""
    return f"rota:parked-bell:{queue}"


def queue_and_priority(key: str) -> tuple[str, str]:
    """What `work_stream` made the key from; a queue's name may itself contain colons."""
    queue, _, priority = key.removeprefix(WORK).rpartition(":")
    return queue, priority


def entry_id(position: Position) -> str:
    """The id of the entry that stands for, or ends at, this position."""
    return f"{position}-0"


def position_of(entry: bytes | str) -> Position:
    """The position in an entry's id. Raises ValueError for anything that is not an id."""
    text = entry.decode() if isinstance(entry, bytes) else entry
    return Position(int(text.partition("-")[0]))
