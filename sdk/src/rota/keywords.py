"""Keywords of a job that is known by its task's name only: options as they are written, unless the task takes such too.

`client.submit("mail.welcome", to="a", timeout=9)` has one place for the options of the job and the arguments of the
task. What the task takes, only the store knows, so a job made in this way remembers its keywords until it is sent.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Container, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from rota.errors import NotFound, Refused

KNOWN_SECONDS = 10.0
"""For so long an answer about a task's parameters is used again."""

KNOWN_TASKS = 1000
UNPROCESSABLE = 422

Parameters = Optional[Container[str]]


class Keyworded(Dict[str, Any]):
    """A job's JSON object, and those of its options that were written as keywords beside arguments of its task."""

    def __init__(self, fields: "Mapping[str, Any]", keywords: "Iterable[str]") -> None:
        super().__init__(fields)
        self.keywords: "Tuple[str, ...]" = tuple(keywords)


class TaskParameters:
    """What tasks take, asked of the store when first needed."""

    def __init__(self, ask: "Callable[[str], Mapping[str, Any]]") -> None:
        self._ask = ask
        self._known: "Dict[str, Tuple[float, Parameters]]" = {}

    def of(self, task: str) -> Parameters:
        """The names of its parameters; None when nothing is known of it."""
        now = time.monotonic()
        since, found = self._known.get(task, (None, None))
        if since is None or now - since > KNOWN_SECONDS:
            if len(self._known) >= KNOWN_TASKS:
                self._known.clear()
            try:
                found = {one["name"] for one in self._ask(task)["parameters"] or ()}
            except NotFound:
                found = None  # submitting it is refused, or the store is of an earlier version
            self._known[task] = (now, found)
        return found


def keywords_of(spec: "Mapping[str, Any]") -> "Tuple[str, ...]":
    """The keywords of a job that `rota.job` has made of a name; none of any other object."""
    return spec.keywords if isinstance(spec, Keyworded) else ()


def refuse_ambiguous(jobs: "Iterable[Tuple[str, Any]]", parameters_of: "Callable[[str], Parameters]") -> None:
    """Raise Refused for the first of these jobs, each with its place in the request, that may mean two things."""
    for place, spec in jobs:
        error = ambiguous(spec, parameters_of, place)
        if error is not None:
            raise error


def ambiguous(spec: Any, parameters_of: "Callable[[str], Parameters]", place: str = "") -> "Optional[Refused]":
    """The refusal of a job with a keyword that is an option of jobs and an argument of its task."""
    keywords = keywords_of(spec) if isinstance(spec, Mapping) else ()
    parameters = (parameters_of(spec["task"]) if keywords else None) or ()
    for name in keywords:
        if name in parameters and name not in spec["args"]:
            field = f"{place}.{name}" if place else name
            said = (
                f"{field}: is an argument of {spec['task']} and an option of jobs: give the arguments as args={{...}}, "
                "then every other keyword is an option"
            )
            problem = {"title": "Invalid", "status": UNPROCESSABLE, "detail": said, "code": "ambiguous", "field": field}
            return Refused(UNPROCESSABLE, problem)
    return None


def within(kind: str, body: "Mapping[str, Any]") -> "Iterator[Tuple[str, Any]]":
    """The jobs of a workflow or batch as it is sent, each with its place."""
    jobs = body.get("jobs")
    if isinstance(jobs, Mapping):
        yield from ((f"jobs.{name}", spec) for name, spec in jobs.items())
    elif isinstance(jobs, list):
        yield from ((f"jobs.{index}", spec) for index, spec in enumerate(jobs))
    if kind == "batch":
        yield "then", body.get("then")
