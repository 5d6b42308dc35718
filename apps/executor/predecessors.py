"""Hands to an attempt what its job's predecessors have returned: within its arguments, and as results by name.

Bounded: so much of results goes with one attempt and no more. What is referred to in the arguments comes first; what
does not fit of the rest is left out by name, and the task is told so when it asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from rota_server.apps.executor.patience import until_available
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.references import Reference, references_in, resolved
from rota_server.domain.jobs.spec import After, JobSpec, Predecessor

RESULTS_LIMIT_BYTES = 1024 * 1024
"""Of all results that go with one attempt, as JSON."""

JOBS = 100
"""Attempts whose results are loaded together."""


class Results(Protocol):
    """What ended streams have returned. Every method may raise Unavailable."""

    async def sizes(self, ids: Sequence[UUID]) -> dict[UUID, int]:
        """How many bytes each result has as JSON; what has none is missing."""

    async def values(self, ids: Sequence[UUID]) -> dict[UUID, Any]:
        """The results; what has none is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an attempt gets: its arguments, results by name, and the names of results that were too large for it."""

    args: Mapping[str, Any]
    results: Mapping[str, Any]
    omitted: tuple[str, ...]


class _Asked(NamedTuple):
    spec: JobSpec
    after: After
    wants_all: bool
    answer: asyncio.Future[Given]


class Predecessors:
    """Loads results for attempts; those that begin at the same time are asked for together."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._asked: list[_Asked] = []
        self._loading: asyncio.Task[None] | None = None

    async def give(self, spec: JobSpec, after: After, *, wants_all: bool) -> Given:
        """What an attempt of this job gets. `wants_all`: also results that its arguments do not refer to.

        Waits for as long as the log is away. Raises Rejected when a reference leads nowhere.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Given] = loop.create_future()
        self._asked.append(_Asked(spec, after, wants_all, answer))
        if self._loading is None:
            self._loading = loop.create_task(self._load())
        return await answer

    async def _load(self) -> None:
        try:
            while self._asked:
                await asyncio.sleep(0)  # so that those that begin now are asked for together
                asked, self._asked = self._asked[:JOBS], self._asked[JOBS:]
                try:
                    await self._answer(asked)
                except Exception as error:  # noqa: BLE001 - whoever asked gets to know, and the next ones go their way
                    for one in asked:
                        _refuse(one, error)
        finally:
            self._loading = None

    async def _answer(self, asked: Sequence[_Asked]) -> None:
        chosen: list[tuple[_Asked, list[Predecessor]]] = []
        everybody = _ids(p for one in asked for p in one.after.predecessors)
        sizes = await until_available("loading results", lambda: self._results.sizes(everybody))
        for one in asked:
            try:
                chosen.append((one, _choose(one, sizes)))
            except Rejected as error:
                _refuse(one, error)
        wanted = _ids(p for _, fitting in chosen for p in fitting)
        values = await until_available("loading results", lambda: self._results.values(wanted))
        for one, fitting in chosen:
            try:
                given = _given(one, fitting, values, sizes)
            except Rejected as error:
                _refuse(one, error)
            else:
                if not one.answer.done():
                    one.answer.set_result(given)


def _refuse(asked: _Asked, error: Exception) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)


def _ids(predecessors: Iterable[Predecessor]) -> list[UUID]:
    return list({predecessor.id: None for predecessor in predecessors})


def _choose(asked: _Asked, sizes: Mapping[UUID, int]) -> list[Predecessor]:
    """Whose results go along. Raises Rejected when those that the arguments refer to are too large together."""
    named = {reference.name for reference in _references(asked.spec)}
    fitting: list[Predecessor] = []
    left = RESULTS_LIMIT_BYTES
    in_order = sorted(asked.after.predecessors, key=lambda predecessor: predecessor.name not in named)
    for predecessor in in_order:
        size = sizes.get(predecessor.id)
        if size is None or (predecessor.name not in named and not asked.wants_all):
            continue
        if size <= left:
            left -= size
            fitting.append(predecessor)
        elif predecessor.name in named:
            message = f"the results that the arguments refer to have more than {RESULTS_LIMIT_BYTES} bytes together"
            raise Rejected(message, field="args", code="too-large")
    return fitting


def _references(spec: JobSpec) -> list[Reference]:
    return references_in(spec.args)


def _given(
    asked: _Asked, fitting: Sequence[Predecessor], values: Mapping[UUID, Any], sizes: Mapping[UUID, int]
) -> Given:
    results = {predecessor.name: values[predecessor.id] for predecessor in fitting if predecessor.id in values}
    omitted = [p.name for p in asked.after.predecessors if p.id in sizes and p.name not in results]
    return Given(
        args=resolved(asked.spec.args, results) if _references(asked.spec) else asked.spec.args,
        results=results,
        omitted=tuple(omitted) if asked.wants_all else (),
    )
