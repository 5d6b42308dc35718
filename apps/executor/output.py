"""Keeps what tasks print and what they say about their progress. Never blocks a task; bounded per attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

from adapters.postgres.job_logs import LogPart, PostgresJobLogs
from apps.executor.attempts import Attempt
from domain.errors import Unavailable

ATTEMPT_LIMIT_CHARS = 1_000_000
"""Of an attempt's output, what comes behind this is dropped, and the log says so."""

FLUSH_SECONDS = 0.25
PROGRESS_SECONDS = 1.0
WAITING_LIMIT_CHARS = 50_000_000
"""Of all attempts together while the database is away."""

_Name = tuple[UUID, int]
Report = Callable[[Attempt, float | None, str | None], Awaitable[None]]


class OutputKeeper:
    """The AttemptSink of an executor."""

    def __init__(self, logs: PostgresJobLogs, report: Report) -> None:
        self._logs = logs
        self._report = report
        self._waiting: dict[_Name, list[tuple[str, str]]] = {}
        self._waiting_chars = 0
        self._written: dict[_Name, tuple[int, int]] = {}
        self._progress: dict[_Name, tuple[Attempt, float | None, str | None]] = {}
        self._lock = asyncio.Lock()

    def output(self, attempt: Attempt, stream: Literal["stdout", "stderr"], text: str) -> None:
        """See AttemptSink."""
        name = (attempt.job_id, attempt.number)
        parts, chars = self._written.get(name, (0, 0))
        if chars >= ATTEMPT_LIMIT_CHARS or self._waiting_chars > WAITING_LIMIT_CHARS:
            return
        kept = text[: ATTEMPT_LIMIT_CHARS - chars]
        pieces = self._waiting.setdefault(name, [])
        if pieces and pieces[-1][0] == stream and len(pieces[-1][1]) + len(kept) < 32_000:
            pieces[-1] = (stream, pieces[-1][1] + kept)
        else:
            pieces.append((stream, kept))
        chars += len(kept)
        if chars >= ATTEMPT_LIMIT_CHARS:
            pieces.append(("stderr", f"\n[rota: output beyond {ATTEMPT_LIMIT_CHARS} characters is not kept]\n"))
        self._waiting_chars += len(kept)
        self._written[name] = (parts, chars)

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        """See AttemptSink."""
        self._progress[attempt.job_id, attempt.number] = (attempt, fraction, message)

    async def finish(self, attempt: Attempt) -> None:
        """Write what the attempt has printed, before its end is reported; forget the attempt."""
        name = (attempt.job_id, attempt.number)
        self._progress.pop(name, None)
        if name in self._waiting:
            await self._flush()
        self._written.pop(name, None)

    async def write_output(self) -> None:
        """Write what has been printed, a few times a second, for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def report_progress(self) -> None:
        """Append the latest progress of each attempt, once a second at most, for ever."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            latest, self._progress = self._progress, {}
            for attempt, fraction, message in latest.values():
                await self._report(attempt, fraction, message)

    async def _flush(self) -> None:
        async with self._lock:
            waiting, self._waiting = self._waiting, {}
            rows = []
            for (job_id, number), pieces in waiting.items():
                parts, chars = self._written.get((job_id, number), (0, 0))
                for stream, text in pieces:
                    parts += 1
                    rows.append(LogPart(job_id=job_id, attempt=number, part=parts, stream=stream, text=text))
                self._written[job_id, number] = (parts, chars)
            if not rows:
                return
            try:
                for start in range(0, len(rows), 500):
                    await self._logs.write(rows[start : start + 500])
            except Unavailable:
                # The same parts again, in front of what came meanwhile; numbers already given stay given.
                for name, pieces in waiting.items():
                    parts, chars = self._written[name]
                    self._written[name] = (parts - len(pieces), chars)
                    self._waiting[name] = pieces + self._waiting.get(name, [])
                raise
            self._waiting_chars -= sum(len(row.text) for row in rows)
