"""What tasks print is kept: in order, once, within limits, before the attempt's end is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from rota_server.apps.executor import output as module
from rota_server.apps.executor.attempts import Attempt, Succeeded
from rota_server.apps.executor.output import ATTEMPT_LIMIT_CHARS, OutputKeeper, Progress
from rota_server.domain.errors import Unavailable
from rota_server.domain.ports.job_logs import LogPart
from tests.unit.executor_parts import MemoryLog, MemoryLogs, MemoryQueue, TestExecutor, item_of
from tests.waiting import until


def attempt_of(job_id: UUID | None = None) -> Attempt:
    return Attempt(job_id=job_id or uuid4(), number=1, task="noop", args={})


async def test_pieces_of_one_stream_become_one_part_and_keep_their_order() -> None:
    logs = MemoryLogs()
    keeper, attempt = OutputKeeper(logs), attempt_of()
    for stream, text in (("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")):
        keeper.output(attempt, stream, text)  # type: ignore[arg-type]
    await keeper.flush()
    assert [(part.stream, part.text) for _, part in sorted(logs.parts.items())] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]
    assert not keeper.holds(attempt)


async def test_a_write_whose_outcome_is_unknown_is_repeated_as_it_was() -> None:
    logs = MemoryLogs()
    keeper, attempt = OutputKeeper(logs), attempt_of()
    keeper.output(attempt, "stdout", "first ")
    logs.forgets_to_answer = 1
    with pytest.raises(Unavailable):
        await keeper.flush()
    keeper.output(attempt, "stdout", "second")
    assert keeper.holds(attempt)
    await keeper.flush()
    assert logs.text(attempt.job_id) == "first second"


@pytest.mark.parametrize("beyond", [0, 1])
async def test_output_is_kept_up_to_the_limit(beyond: int) -> None:
    logs = MemoryLogs()
    keeper, attempt = OutputKeeper(logs), attempt_of()
    keeper.output(attempt, "stdout", "x" * (ATTEMPT_LIMIT_CHARS - 1))
    keeper.output(attempt, "stdout", "y" * (1 + beyond))
    keeper.output(attempt, "stdout", "z" * beyond)
    await keeper.flush()
    kept = logs.text(attempt.job_id)
    assert kept.startswith("x" * (ATTEMPT_LIMIT_CHARS - 1) + "y")
    assert kept.count("rota: output beyond") == beyond
    assert "z" not in kept.partition("[")[0]


async def test_output_of_all_attempts_is_bounded_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_LIMIT_CHARS", 10)
    logs = MemoryLogs()
    keeper, one, two = OutputKeeper(logs), attempt_of(), attempt_of()
    keeper.output(one, "stdout", "1234567890")
    for _ in range(3):
        keeper.output(two, "stdout", "lost")
    await keeper.flush()
    keeper.output(two, "stdout", "kept")
    await keeper.flush()
    assert logs.text(one.job_id) == "1234567890"
    assert logs.text(two.job_id).count("not kept") == 1
    assert logs.text(two.job_id).endswith("kept")


async def test_output_is_written_before_the_end_is_reported() -> None:
    log, queue = MemoryLog(), MemoryQueue()
    job_id = log.submit("held")
    queue.put(item_of(log, job_id))
    parts = TestExecutor(log, queue)
    async with parts.working():
        await until(lambda: parts.runner.running(job_id))
        parts.logs.away = True
        parts.runner.sinks[job_id].output(parts.runner.started[0], "stdout", "last words")
        parts.runner.end(job_id, Succeeded(None))
        await until(lambda: parts.slots.unreported == 1)
        assert log.types(job_id) == ["JobSubmitted", "AttemptStarted"]
        parts.logs.away = False
        await parts.settled()
    assert log.job(job_id).state == "succeeded"
    assert parts.logs.text(job_id) == "last words"


async def test_an_end_waits_for_a_write_that_is_under_way() -> None:
    class SlowLogs(MemoryLogs):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.go_on = asyncio.Event(), asyncio.Event()

        async def write(self, parts: Sequence[LogPart]) -> None:
            self.entered.set()
            await self.go_on.wait()
            await super().write(parts)

    logs = SlowLogs()
    keeper, attempt = OutputKeeper(logs), attempt_of()
    keeper.output(attempt, "stdout", "text")
    writing = asyncio.create_task(keeper.flush())
    await logs.entered.wait()
    finishing = asyncio.create_task(keeper.finish(attempt))
    await asyncio.sleep(0)
    assert not finishing.done()
    logs.go_on.set()
    await finishing
    assert logs.text(attempt.job_id) == "text"
    await writing


async def test_a_thousand_attempts_that_end_together_share_writes() -> None:
    class CountingLogs(MemoryLogs):
        calls = 0

        async def write(self, parts: Sequence[LogPart]) -> None:
            CountingLogs.calls += 1
            await super().write(parts)

    logs = CountingLogs()
    keeper = OutputKeeper(logs)
    attempts = [attempt_of() for _ in range(1000)]
    for attempt in attempts:
        keeper.output(attempt, "stdout", "line\n")
    await asyncio.gather(*(keeper.finish(attempt) for attempt in attempts))
    assert len(logs.parts) == 1000
    assert logs.calls == 2
    for attempt in attempts:
        keeper.forget(attempt)
    assert not keeper._outputs


async def test_of_progress_the_last_within_a_second_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.01)
    keeper, attempt = OutputKeeper(MemoryLogs()), attempt_of()
    got: list[Progress] = []

    async def report(latest: Sequence[Progress]) -> None:
        got.extend(latest)

    for step in range(100):
        keeper.progress(attempt, step / 100, str(step))
    reporting = asyncio.create_task(keeper.report_progress(report))
    await until(lambda: got)
    reporting.cancel()
    assert got == [(attempt, 0.99, "99")]
