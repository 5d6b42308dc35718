"""The names of Rota's Redis streams and the fields of their entries.

- `rota:feed`: the whole log; an entry is a batch, its id the last position in it (`4711-0`), its field `from` the
  first one, its field `events` a JSON array of events as HTTP shows them.
- `rota:work:{queue}:{priority}`: one entry a dispatch, its id the position; fields `job`, `version`, and `submitted`
  (the event as JSON) when the job's submission is itself the dispatch.
- `rota:control`: one entry a cancel request, its id the position; field `event`.
"""

from __future__ import annotations

from domain.specs import PRIORITIES

FEED = "rota:feed"
CONTROL = "rota:control"
GROUP = "executors"


def work_stream(queue: str, priority: str) -> str:
    """The work stream of a queue and priority."""
    return f"rota:work:{queue}:{priority}"


def queue_of(stream: str) -> tuple[str, str]:
    """The queue and priority of a work stream's name."""
    queue, _, priority = stream.removeprefix("rota:work:").rpartition(":")
    return queue, priority


def work_streams_of(queues: list[str]) -> list[str]:
    """All work streams of these queues, higher priorities first."""
    return [work_stream(queue, priority) for priority in PRIORITIES for queue in queues]
