"""Keeps what tasks print and what they say about their progress. Never blocks a task; bounded per attempt and in all.

Parts of text get their number when they are about to be written and keep it: a write whose outcome is unknown is
repeated with the same parts, of which the database keeps one each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from rota_server.apps.executor.attempts import Attempt
from rota_server.domain.ports.job_logs import LogPart

ATTEMPT_LIMIT_CHARS = 1_000_000
"""Of an attempt's output, what comes behind this is dropped, and the log says so."""

WAITING_LIMIT_CHARS = 16_000_000
"""Of all attempts together while the database is away; what comes then is dropped, and the log says so."""

PART_CHARS = 32_000
WRITE_CHARS = 1_000_000
WRITE_PARTS = 500
FLUSH_SECONDS = 0.25
PROGRESS_SECONDS = 1.0

_Name = tuple[UUID, int]
Progress = tuple[Attempt, float | None, str | None]
ReportProgress = Callable[[Sequence[Progress]], Awaitable[None]]


class JobLogs(Protocol):
    """Where parts are kept."""

    async def write(self, parts: Sequence[LogPart]) -> None:
        """Keep the parts; one that is there already stays as it is. Raises Unavailable."""


@dataclass(slots=True)
class _Output:
    """What is known of one attempt's output. `pieces` have no number yet; `unwritten` counts numbered parts."""

    pieces: list[tuple[str, str]] = field(default_factory=list)
    kept_chars: int = 0
    parts: int = 0
    unwritten: int = 0
    dropped: str | None = None


class OutputKeeper:
    """The AttemptSink of an executor."""

    def __init__(self, logs: JobLogs) -> None:
        self._logs = logs
        self._outputs: dict[_Name, _Output] = {}
        self._printed: set[_Name] = set()
        self._unwritten: list[LogPart] = []
        self._waiting_chars = 0
        self._progress: dict[_Name, Progress] = {}
        self._writing = asyncio.Lock()

    def output(self, attempt: Attempt, stream: Literal["stdout", "stderr"], text: str) -> None:
        """See AttemptSink."""
        name = (attempt.job_id, attempt.number)
        output = self._outputs.get(name)
        if output is None:
            output = self._outputs[name] = _Output()
        kept = text[: max(0, ATTEMPT_LIMIT_CHARS - output.kept_chars)]
        if self._waiting_chars + len(kept) > WAITING_LIMIT_CHARS:
            self._drop(name, output, "output that came while the database was away is not kept")
            return
        if kept:
            self._keep(name, output, stream, kept)
        if len(kept) < len(text):
            self._drop(name, output, f"output beyond {ATTEMPT_LIMIT_CHARS} characters is not kept")

    def _keep(self, name: _Name, output: _Output, stream: str, text: str) -> None:
        pieces = output.pieces
        if pieces and pieces[-1][0] == stream and len(pieces[-1][1]) + len(text) <= PART_CHARS:
            pieces[-1] = (stream, pieces[-1][1] + text)
        else:
            pieces.extend((stream, text[at : at + PART_CHARS]) for at in range(0, len(text), PART_CHARS))
        output.kept_chars += len(text)
        self._waiting_chars += len(text)
        self._printed.add(name)

    def _drop(self, name: _Name, output: _Output, why: str) -> None:
        if output.dropped != why:
            output.dropped = why
            marker = f"\n[rota: {why}]\n"
            output.pieces.append(("stderr", marker))
            self._waiting_chars += len(marker)
            self._printed.add(name)

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        """See AttemptSink."""
        self._progress[attempt.job_id, attempt.number] = (attempt, fraction, message)

    def holds(self, attempt: Attempt) -> bool:
        """Whether something that the attempt has printed is not written yet."""
        output = self._outputs.get((attempt.job_id, attempt.number))
        return output is not None and (bool(output.pieces) or output.unwritten > 0)

    async def finish(self, attempt: Attempt) -> None:
        """Return when all that the attempt has printed is written. Raises Unavailable."""
        if self.holds(attempt):
            await self.flush()

    def forget(self, attempt: Attempt) -> None:
        """The attempt is over."""
        name = (attempt.job_id, attempt.number)
        self._outputs.pop(name, None)
        self._progress.pop(name, None)
        self._printed.discard(name)

    async def write_output(self) -> None:
        """Write what has been printed, a few times a second, forever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def report_progress(self, report: ReportProgress) -> None:
        """Hand on the latest progress of each attempt, once a second at most, forever."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            latest, self._progress = self._progress, {}
            if latest:
                await report(list(latest.values()))

    async def flush(self) -> None:
        """Write what has been printed until now. Raises Unavailable; then the next call goes on."""
        async with self._writing:
            await self._write()
            self._number()
            await self._write()

    def _number(self) -> None:
        """Give what was printed its place in the attempts' logs."""
        printed, self._printed = self._printed, set()
        for name in printed:
            output = self._outputs[name]
            pieces, output.pieces = output.pieces, []
            job_id, attempt = name
            for stream, text in pieces:
                output.parts += 1
                part = LogPart(job_id=job_id, attempt=attempt, part=output.parts, stream=stream, text=text)
                self._unwritten.append(part)
            output.unwritten += len(pieces)

    async def _write(self) -> None:
        while self._unwritten:
            count = _how_many(self._unwritten)
            batch = self._unwritten[:count]
            await self._logs.write(batch)
            del self._unwritten[:count]
            for part in batch:
                self._waiting_chars -= len(part.text)
                output = self._outputs.get((part.job_id, part.attempt))
                if output is not None:
                    output.unwritten -= 1


def _how_many(parts: Sequence[LogPart]) -> int:
    """How many of the parts one write takes."""
    chars = 0
    for count, part in enumerate(parts[:WRITE_PARTS]):
        chars += len(part.text)
        if count and chars > WRITE_CHARS:
            return count
    return min(len(parts), WRITE_PARTS)
