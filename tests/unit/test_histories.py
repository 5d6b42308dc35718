"""Long streams are read in pieces, and by whoever knows them only from there on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from rota_server.adapters.memory.event_log import MemoryEventLog, MemoryResourceIndex
from rota_server.apps import calendar_versions, histories
from rota_server.apps.calendar_versions import versions_of
from rota_server.apps.histories import histories_of, history_of, job_since, jobs_of, jobs_since, version_at
from rota_server.apps.store.jobs.histories import job_from
from rota_server.domain.errors import Unreadable
from rota_server.domain.ids import Version, resource_id
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import AttemptError, EventPublished, ProgressReported
from rota_server.domain.jobs.job import Job, fold
from rota_server.domain.jobs.spec import JobSpec
from rota_server.domain.log import Meta, RawEvent, StreamWrite, Unit
from rota_server.domain.schedules import calendars

META = Meta(actor="test")
NOW = datetime(2027, 1, 1, tzinfo=UTC)


class Counted(MemoryEventLog):
    """A log that knows how many events were read at once, and how many in all."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.largest = 0
        self.total = 0

    async def read_stream_page(
        self, stream_id: UUID, after: int, limit: int, limit_bytes: int | None = None
    ) -> list[RawEvent]:
        page = await super().read_stream_page(stream_id, after, limit, limit_bytes)
        self._count(len(page))
        return page

    async def read_changes_page(self, *arguments: Any) -> list[RawEvent]:
        page = await super().read_changes_page(*arguments)
        self._count(len(page))
        return page

    async def read_streams_within(self, *arguments: Any) -> Any:
        found = await super().read_streams_within(*arguments)
        self._count(sum(map(len, (found or {}).values())))
        return found

    def _count(self, events: int) -> None:
        self.largest, self.total = max(self.largest, events), self.total + events


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setattr(histories, "PAGE_EVENTS", 3)
    monkeypatch.setattr(histories, "TOGETHER_EVENTS", 5)
    return Counted()


async def running(log: MemoryEventLog, reports: int) -> Job:
    """A job that has said so often how far it is."""
    job: Job | None = None
    job_id = uuid4()
    for command in (c.SubmitJob(spec=JobSpec(task="t")), c.StartAttempt(executor="e")):
        write, job = write_for(job, job_id, decide(job, command, NOW), META, NOW)
        await log.append([Unit(id=uuid4(), writes=[write], meta=META)])
    assert job is not None
    return await said(log, job, reports)


async def said(log: MemoryEventLog, job: Job, reports: int) -> Job:
    for number in range(reports):
        event = ProgressReported(attempt=1, fraction=None, message=str(number))
        write, job = write_for(job, job.id, [event], META, NOW)
        await log.append([Unit(id=uuid4(), writes=[write], meta=META)])
    return job


async def test_a_long_stream_is_read_in_pieces_and_gives_the_same_job(log: Counted) -> None:
    job = await running(log, 20)
    assert [recorded.version for recorded in [r async for r in history_of(log, job.id, 4)]] == list(range(5, 23))
    assert log.largest == 3
    assert await jobs_of(log, [job.id]) == {job.id: fold(await log.read_stream(job.id))}


async def test_of_a_job_that_reports_for_days_the_last_report_alone_is_read(log: Counted) -> None:
    job = await running(log, 300)
    error = AttemptError(type="E", message="no")
    command = c.FailAttempt(attempt=1, executor="e", error=error, retryable=False)
    write, job = write_for(job, job.id, decide(job, command, NOW), META, NOW)
    await log.append([Unit(id=uuid4(), writes=[write], meta=META)])
    whole = await log.read_stream(job.id)
    assert await jobs_of(log, [job.id]) == {job.id: fold(whole)}
    assert log.total <= 6
    assert await job_from(log, job.id) == fold(whole)  # type: ignore[arg-type]
    for upto in (1, 2, 3, 150, len(whole) - 1):
        log.total = 0
        then = await job_from(log, job.id, at=whole[upto - 1].position)  # type: ignore[arg-type]
        assert then == fold(whole[:upto])
        assert log.total < 20
    assert await job_from(log, job.id, at=0) is None  # type: ignore[arg-type]
    assert await version_at(log, job.id, NOW) == len(whole)
    assert await version_at(log, job.id, NOW - timedelta(seconds=1)) == 0


async def test_long_streams_among_short_ones_are_read_apart(log: Counted) -> None:
    jobs = [await running(log, reports) for reports in (0, 11, 1, 0, 7, 2)]
    found = await jobs_of(log, [*(job.id for job in jobs), uuid4()])
    assert found == {job.id: fold(await log.read_stream(job.id)) for job in jobs}
    assert log.largest <= 5


async def test_who_knows_a_job_reads_only_what_is_new(log: Counted) -> None:
    known = await running(log, 20)
    assert (await job_since(log, known)).version == known.version
    assert log.total == 0
    now = await said(log, known, 2)
    assert (await jobs_since(log, [known]))[known.id].progress == now.progress
    assert log.total == 2


async def test_a_page_ends_after_so_many_bytes(log: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await running(log, 20)
    monkeypatch.setattr(histories, "PAGE_BYTES", 1)
    assert [recorded.version for recorded in [r async for r in history_of(log, job.id)]] == list(range(1, 23))
    assert log.largest == 1


async def test_one_unreadable_stream_stands_apart_from_the_others(log: Counted) -> None:
    job = await running(log, 0)
    strange = uuid4()
    event = EventPublished(id="1", source="s", type="t")
    writes = [StreamWrite(stream_id=strange, expected_version=Version(0), events=[event, event], head=None)]
    await log.append([Unit(id=uuid4(), writes=writes, meta=META)])
    found = await jobs_of(log, [strange, job.id])
    assert isinstance(found[strange], Unreadable)
    assert isinstance(found[job.id], Job)


async def test_nothing_is_read_for_nobody(log: Counted) -> None:
    assert [piece async for piece in histories_of(log, {})] == []


async def changed(log: MemoryEventLog, dates: Sequence[str]) -> UUID:
    """A calendar of one date, then another one each day at noon."""
    stream = resource_id(calendars.KIND, "days")
    calendar = None
    for day, date in enumerate(dates):
        now = NOW + timedelta(days=day, hours=12)
        definition = {"dates": [date]}
        if calendar is None:
            written = calendars.create(None, stream, "days", definition, None, META, now)
        else:
            after = calendars.change(calendar, definition, None, META, now)
            assert after is not None
            written = after
        expected = Version(0 if calendar is None else calendar.version)
        write = StreamWrite(stream_id=stream, expected_version=expected, events=written.events, head=written.head)
        await log.append([Unit(id=uuid4(), writes=[write], meta=META)])
        calendar = written.calendar
    return stream


async def test_only_those_versions_of_a_calendar_are_read_that_the_time_needs(
    log: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_versions, "PAGE_EVENTS", 2)
    dates = [f"2027-06-{day:02}" for day in range(1, 29)]
    stream = await changed(log, dates)
    (row,) = (await MemoryResourceIndex(log).get([stream])).values()
    noon = NOW + timedelta(days=20, hours=12)

    def date_at(versions: calendar_versions.Versions, at: datetime) -> str:
        (day,) = versions.then(at).dates
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()

    versions = await versions_of(log, row, noon)
    assert [date_at(versions, noon + timedelta(hours=h)) for h in (0, 1, 24, 25, 1000)] == [
        dates[19], dates[20], dates[20], dates[21], dates[27]
    ]  # fmt: skip
    assert log.total <= 10
    within = await versions_of(log, row, noon, noon + timedelta(hours=30))
    assert len(within.past) == 3
    before = await versions_of(log, row, NOW - timedelta(days=9), NOW - timedelta(days=8))
    assert date_at(before, NOW - timedelta(days=8)) == dates[0]
    assert len(before.past) == 1
    assert date_at(within, noon + timedelta(hours=30)) == dates[21]
    everything = await versions_of(log, row, NOW - timedelta(days=1))
    assert date_at(everything, NOW) == dates[0]
    assert log.largest == 2
