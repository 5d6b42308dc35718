"""What every event log promises, the races included; run on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.memory.event_log import MemoryEventLog, MemoryJobIndex, MemoryResourceIndex
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.adapters.postgres.fence import PostgresFence
from rota_server.adapters.postgres.job_index import PostgresJobIndex
from rota_server.adapters.postgres.resource_index import PostgresResourceIndex
from rota_server.domain.errors import NotLeader
from rota_server.domain.ids import Position, Term, Version, resource_id
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import EventPublished
from rota_server.domain.jobs.job import Job, fold, head_of
from rota_server.domain.jobs.spec import After, JobSpec, Origin, Predecessor, lane_of
from rota_server.domain.log import Appended, Conflicted, Meta, ResourceHead, StreamWrite, Unit
from rota_server.domain.ports.indexes import JobFilter
from tests.conftest import TestDatabase
from tests.waiting import until

META = Meta(actor="test")
NOW = datetime(2027, 1, 1, tzinfo=UTC)
WRITERS = 8


@dataclass
class Subject:
    log: Any
    index: Any
    enter: Any
    resources: Any


@pytest.fixture(params=["memory", "postgres"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryEventLog()

        async def enter(term: Term) -> None:
            memory.term = term

        yield Subject(memory, MemoryJobIndex(memory), enter, MemoryResourceIndex(memory))
        return
    found: TestDatabase = await asyncio.to_thread(request.getfixturevalue, "database")
    database = Database(found.url)
    log = PostgresEventLog(database)
    fence = PostgresFence(database)
    resources = PostgresResourceIndex(database)
    yield Subject(log, PostgresJobIndex(database), lambda term: fence.enter(term, "test"), resources)
    await log.close()
    await database.close()


def submission(spec: JobSpec | None = None, job_id: UUID | None = None) -> tuple[Unit, Job]:
    identity = job_id or uuid4()
    command = c.SubmitJob(spec=spec or JobSpec(task="t"))
    write, job = write_for(None, identity, decide(None, command, NOW), META, NOW)
    return Unit(id=uuid4(), writes=[write], meta=META), job


def following(job: Job, command: c.Command) -> tuple[Unit, Job]:
    write, after = write_for(job, job.id, decide(job, command, NOW), META, NOW)
    return Unit(id=uuid4(), writes=[write], meta=META), after


def note(stream: UUID, expected: int, text: str = "x") -> StreamWrite:
    event = EventPublished(id=text, source="test", type="note")
    return StreamWrite(stream_id=stream, expected_version=Version(expected), events=[event], head=None)


async def test_positions_are_dense_and_versions_contiguous(subject: Subject) -> None:
    unit, job = submission()
    other, _ = submission()
    first, second = await subject.log.append([unit, other])
    start, _ = following(job, c.StartAttempt(executor="e"))
    (third,) = await subject.log.append([start])
    assert [r.first_position for r in (first, second, third)] == [1, 2, 3]
    events = await subject.log.read(Position(0), 10)
    assert [e.position for e in events] == [1, 2, 3]
    assert [e.version for e in await subject.log.read_stream(job.id)] == [1, 2]
    assert first.recorded_at == events[0].recorded_at


async def test_streams_are_read_by_pages_and_together_only_within_bounds(subject: Subject) -> None:
    one, two, none = uuid4(), uuid4(), uuid4()
    for expected in range(3):
        await subject.log.append([Unit(id=uuid4(), writes=[note(one, expected, "x" * 400)], meta=META)])
    await subject.log.append([Unit(id=uuid4(), writes=[note(two, 0)], meta=META)])
    size = len((await subject.log.read_stream_page(one, 0, 1))[0].data)
    assert [raw.version for raw in await subject.log.read_stream_page(one, 0, 2)] == [1, 2]
    assert [raw.version for raw in await subject.log.read_stream_page(one, 1, 9, size)] == [2]
    assert [raw.version for raw in await subject.log.read_stream_page(one, 1, 9, size + 1)] == [2, 3]
    assert [raw.version for raw in await subject.log.read_stream_page(one, 0, 9, 1)] == [1]
    assert [await subject.log.last_version(stream) for stream in (one, two, none)] == [3, 1, 0]
    since = {one: 1, two: 0, none: 0}
    found = await subject.log.read_streams_within(since, 3, 10_000)
    assert {stream: [r.version for r in history] for stream, history in found.items()} == {one: [2, 3], two: [1]}
    assert await subject.log.read_streams_within(since, 2, 10_000) is None
    assert await subject.log.read_streams_within(since, 3, 2 * size) is None
    assert await subject.log.read_streams_within({one: 1}, 2, 2 * size) is not None
    assert await subject.log.read_streams_within({one: 3, none: 0}, 0, 0) == {}


async def test_of_a_jobs_reports_only_the_last_one_up_to_a_version_is_read(subject: Subject) -> None:
    unit, job = submission()
    await subject.log.append([unit])
    commands = [c.StartAttempt(executor="e"), *(c.ReportProgress(attempt=1, fraction=None, message=m) for m in "abc")]
    for command in [*commands, c.SucceedAttempt(attempt=1, executor="e", result=1)]:
        unit, job = following(job, command)
        await subject.log.append([unit])

    async def versions(after: int, limit: int = 9, limit_bytes: int = 10_000, **upto: int) -> list[int]:
        page = await subject.log.read_changes_page(job.id, after, limit, limit_bytes, **upto)
        return [raw.version for raw in page]

    assert await versions(0) == [1, 2, 5, 6]
    assert await versions(0, 2) == [1, 2]
    assert await versions(2) == await versions(4) == [5, 6]
    assert await versions(0, upto=4) == [1, 2, 4]
    assert await versions(0, upto=2) == [1, 2]
    assert await versions(2, 9, 1) == [5]
    assert await versions(6) == []


async def test_a_stale_unit_loses_and_the_others_of_its_call_win(subject: Subject) -> None:
    unit, job = submission()
    await subject.log.append([unit])
    late, _ = submission(job_id=job.id)
    fresh, _ = submission()
    results = await subject.log.append([late, fresh])
    assert results[0] == Conflicted(job.id)
    assert isinstance(results[1], Appended)
    assert await subject.log.last_position() == 2


async def test_a_unit_over_several_streams_stands_or_falls_whole(subject: Subject) -> None:
    one, two = uuid4(), uuid4()
    await subject.log.append([Unit(id=uuid4(), writes=[note(one, 0)], meta=META)])
    torn = Unit(id=uuid4(), writes=[note(two, 0), note(one, 0)], meta=META)
    assert (await subject.log.append([torn]))[0] == Conflicted(one)
    assert await subject.log.read_stream(two) == []
    whole = Unit(id=uuid4(), writes=[note(two, 0), note(one, 1)], meta=META)
    assert isinstance((await subject.log.append([whole]))[0], Appended)


async def test_a_repeated_unit_is_answered_as_appended_where_it_is(subject: Subject) -> None:
    unit, _ = submission()
    (first,) = await subject.log.append([unit])
    await subject.log.append([submission()[0]])
    assert (await subject.log.append([unit]))[0] == first
    assert await subject.log.last_position() == 2


async def test_an_older_term_is_refused_and_writes_nothing(subject: Subject) -> None:
    await subject.enter(Term(7))
    with pytest.raises(NotLeader):
        await subject.log.append([submission()[0]], fence=Term(6))
    assert await subject.log.last_position() == 0
    assert isinstance((await subject.log.append([submission()[0]], fence=Term(7)))[0], Appended)
    assert isinstance((await subject.log.append([submission()[0]]))[0], Appended)


async def test_the_head_row_is_the_fold_of_the_stream(subject: Subject) -> None:
    spec = JobSpec(task="t", queue="q", priority="high", tags={"a": "b"}, run_at=NOW + timedelta(hours=1))
    unit, job = submission(spec)
    await subject.log.append([unit])
    for command in (c.RequestCancel(reason="no"), c.RetryJob(), c.StartAttempt(executor="e")):
        unit, job = following(job, command)
        await subject.log.append([unit])
        row = (await subject.index.get([job.id]))[job.id]
        folded = fold(await subject.log.read_stream(job.id))
        assert folded is not None
        head = head_of(folded)
        assert (row.state, row.attempt, row.due_at, row.queue, row.priority, dict(row.tags)) == (
            head.state, head.attempt, head.due_at, head.queue, head.priority, dict(head.tags)
        )  # fmt: skip
        assert (row.version, row.position, row.changed_at) == (folded.version, folded.position, folded.changed_at)


async def test_the_index_finds_what_is_asked_for(subject: Subject) -> None:
    due = NOW + timedelta(minutes=1)
    specs = [
        JobSpec(task="a", queue="x", tags={"team": "one"}),
        JobSpec(task="b", queue="x", run_at=due),
        JobSpec(task="a", queue="y", priority="low"),
    ]
    jobs = []
    for spec in specs:
        unit, job = submission(spec)
        await subject.log.append([unit])
        jobs.append(job.id)

    async def found(**where: Any) -> list[UUID]:
        return [row.id for row in await subject.index.find(JobFilter(**where), before=None, limit=10)]

    assert await found() == jobs[::-1]
    assert await found(task="a") == [jobs[2], jobs[0]]
    assert await found(state="scheduled") == [jobs[1]]
    assert await found(tags={"team": "one"}) == [jobs[0]]
    assert await subject.index.count(JobFilter(queue="x")) == 2
    assert await subject.index.timers(due, 10) == [(jobs[1], due)]
    assert await subject.index.timers(due - timedelta(seconds=1), 10) == []
    assert [row.id for row in await subject.index.queued(Position(0), 10)] == [jobs[0], jobs[2]]
    assert await subject.index.queue_counts() == {("x", "normal"): 1, ("y", "low"): 1}
    page = await subject.index.find(JobFilter(), before=Position(2), limit=10)
    assert [row.id for row in page] == [jobs[0]]


async def test_eight_writers_with_conflicts_and_a_tailing_reader_that_misses_nothing(subject: Subject) -> None:
    streams = [uuid4() for _ in range(5)]
    appended = 0
    writing = True

    async def write(seed: int) -> int:
        rng = random.Random(seed)
        wins = 0
        for _ in range(40):
            stream = rng.choice(streams)
            version = len(await subject.log.read_stream(stream))
            writes = [note(stream, version, f"{seed}")]
            if rng.random() < 0.3:
                writes.append(note(uuid4(), 0))
            (result,) = await subject.log.append([Unit(id=uuid4(), writes=writes, meta=META)])
            wins += len(writes) if isinstance(result, Appended) else 0
        return wins

    async def tail() -> list[int]:
        seen: list[int] = []
        while True:
            after = Position(seen[-1] if seen else 0)
            events = await subject.log.read_raw(after, 7)
            seen += [event.position for event in events]
            if not events:
                if not writing:
                    return seen
                await subject.log.wait_for_append(after, 0.2)

    reader = asyncio.create_task(tail())
    appended = sum(await asyncio.gather(*(write(seed) for seed in range(WRITERS))))
    writing = False
    assert await reader == list(range(1, appended + 1))
    for stream in streams:
        history = await subject.log.read_stream(stream)
        assert [event.version for event in history] == list(range(1, len(history) + 1))


async def test_group_commit_over_the_log_gives_each_unit_its_own_answer(subject: Subject) -> None:
    commit = GroupCommit(subject.log)
    stream = uuid4()
    units = [Unit(id=uuid4(), writes=[note(stream, 0, str(n))], meta=META) for n in range(5)]
    free = [submission()[0] for _ in range(20)]
    results = await asyncio.gather(*(commit.append(unit) for unit in [*units, *free]))
    assert sum(isinstance(result, Appended) for result in results[:5]) == 1
    assert all(isinstance(result, Appended) for result in results[5:])
    assert commit.calls < len(results)


# -- resources, lines, dependencies -----------------------------------------------------------------------------------


def resource(name: str, expected: int, *, kind: str = "thing", active: bool = True, **doc: Any) -> Unit:
    event = EventPublished(id=name, source="test", type="note")
    stream = resource_id(kind, name)
    head = ResourceHead(kind=kind, name=name, doc=doc, active=active, due_at=NOW if doc.get("due") else None)
    write = StreamWrite(stream_id=stream, expected_version=Version(expected), events=[event], head=head)
    return Unit(id=uuid4(), writes=[write], meta=META)


async def test_a_resource_has_its_current_state_beside_its_stream(subject: Subject) -> None:
    await subject.log.append([resource("a", 0, size=1), resource("b", 0, size=1, due=True)])
    assert isinstance((await subject.log.append([resource("a", 1, size=2, active=False)]))[0], Appended)
    assert (await subject.log.append([resource("a", 1, size=3)]))[0] == Conflicted(resource_id("thing", "a"))
    rows = await subject.resources.by_name("thing", ["a", "b", "c"])
    assert set(rows) == {"a", "b"}
    assert (rows["a"].version, rows["a"].doc, rows["a"].active, rows["a"].position) == (2, {"size": 2}, False, 3)
    assert [row.name for row in await subject.resources.find("thing", limit=10)] == ["b", "a"]
    assert [row.name for row in await subject.resources.find("thing", active=True, limit=10)] == ["b"]
    assert [row.name for row in await subject.resources.find("thing", doc={"size": 2}, limit=10)] == ["a"]
    assert [row.name for row in await subject.resources.find("thing", before=Position(2), limit=10)] == ["a"]
    assert list(await subject.resources.due("thing", NOW, 10)) == [(resource_id("thing", "b"), NOW)]
    page = await subject.log.read_stream_page(resource_id("thing", "a"), 1, 10)
    assert [raw.version for raw in page] == [2]


async def test_of_two_units_in_one_call_that_want_the_same_name_the_first_one_gets_it(subject: Subject) -> None:
    def named(name: str) -> Unit:
        (write,) = resource(name, 0).writes
        return Unit(id=uuid4(), writes=[replace(write, stream_id=uuid4())], meta=META)

    units = [named("a"), named("b"), named("a")]
    results = await subject.log.append(units)
    assert [isinstance(result, Appended) for result in results] == [True, True, False]
    assert results[2] == Conflicted(units[2].writes[0].stream_id)
    assert set(await subject.resources.by_name("thing", ["a", "b"])) == {"a", "b"}
    assert await subject.log.append(units) == results


async def test_a_resource_and_jobs_are_written_together_or_not_at_all(subject: Subject) -> None:
    unit, job = submission()
    await subject.log.append([resource("a", 0)])
    torn = Unit(id=uuid4(), writes=[*unit.writes, *resource("a", 0).writes], meta=META)
    assert (await subject.log.append([torn]))[0] == Conflicted(resource_id("thing", "a"))
    assert await subject.index.get([job.id]) == {}
    whole = Unit(id=uuid4(), writes=[*unit.writes, *resource("a", 1, size=2).writes], meta=META)
    assert isinstance((await subject.log.append([whole]))[0], Appended)
    assert (await subject.index.get([job.id]))[job.id].state == "queued"
    assert (await subject.resources.by_name("thing", ["a"]))["a"].doc == {"size": 2}


async def test_only_the_leader_dispatches_to_a_managed_queue(subject: Subject) -> None:
    await subject.enter(Term(7))
    early, before = submission(JobSpec(task="t", queue="q"))
    await subject.log.append([early])
    await subject.log.append([resource("q", 0, kind="queue")])
    direct, _ = submission(JobSpec(task="t", queue="q"))
    other, _ = submission(JobSpec(task="t", queue="free"))
    results = await subject.log.append([direct, other, early])
    assert results[0] == Conflicted(direct.writes[0].stream_id, "q")
    assert isinstance(results[1], Appended)
    assert isinstance(results[2], Appended), "what is in the log already stays appended when it is repeated"
    start, _ = following(before, c.StartAttempt(executor="e"))
    assert isinstance((await subject.log.append([start]))[0], Appended)
    identity = uuid4()
    command = c.SubmitJob(spec=JobSpec(task="t", queue="q"), managed=True)
    write, job = write_for(None, identity, decide(None, command, NOW), META, NOW)
    assert isinstance((await subject.log.append([Unit(id=uuid4(), writes=[write], meta=META)]))[0], Appended)
    admit, _ = following(job, c.DispatchJob(reason="admitted"))
    assert (await subject.log.append([admit]))[0] == Conflicted(identity, "q")
    assert isinstance((await subject.log.append([admit], fence=Term(7)))[0], Appended)
    await subject.log.append([resource("q", 1, kind="queue", active=False)])
    assert isinstance((await subject.log.append([direct]))[0], Appended)


async def test_jobs_with_a_key_wait_in_line_first_come_first(subject: Subject) -> None:
    units, jobs = zip(*[submission(JobSpec(task="t", queue="q", key=key)) for key in "abab"], strict=True)
    await subject.log.append(units)
    lane = lane_of("q", "normal", "a")
    assert await subject.index.in_line(lane, Position(0), 10) == [(jobs[0].id, 1), (jobs[2].id, 3)]
    assert await subject.index.in_line(lane, Position(1), 10) == [(jobs[2].id, 3)]
    admit, after = following(jobs[0], c.DispatchJob(reason="admitted"))
    await subject.log.append([admit])
    assert sorted(await subject.index.lanes()) == [(lane, 1), (lane_of("q", "normal", "b"), 2)]
    hold, _ = following(after, c.HoldJob(reason="paused"))
    await subject.log.append([hold])
    assert await subject.index.in_line(lane, Position(0), 10) == [(jobs[2].id, 3), (jobs[0].id, 6)]
    row = (await subject.index.get([jobs[0].id]))[jobs[0].id]
    assert (row.state, row.key, row.lane, row.waits_since) == ("waiting", "a", lane, 6)


async def test_who_waits_for_whom_is_known_with_the_submission(subject: Subject) -> None:
    first, origin = uuid4(), uuid4()
    after = After(predecessors=(Predecessor(id=first, name="first"),))
    spec = JobSpec(task="t", after=after, origin=Origin(kind="workflow", id=origin, name="second"))
    unit, job = submission(spec)
    await subject.log.append([unit])
    assert await subject.index.awaited() == [(first, job.id)]
    assert await subject.index.dependents([first, uuid4()]) == [(first, job.id)]
    assert await subject.index.dependents([uuid4()]) == []
    assert await subject.index.states_of_origin(origin) == {"waiting": 1}
    assert await subject.index.states_of_origins([origin, uuid4()]) == {origin: {"waiting": 1}}
    assert await subject.index.count(JobFilter(origin_id=origin)) == 1
    history = await subject.log.read_stream(job.id)
    folded = fold(history)
    assert folded is not None
    assert folded.spec == spec
    met, after_it = following(folded, c.MeetDependencies())
    assert after_it.state == "queued"
    await subject.log.append([met])
    assert fold(await subject.log.read_stream(job.id)).state == "queued"  # type: ignore[union-attr]


# -- PostgreSQL alone ------------------------------------------------------------------------------------------


async def test_eight_processes_with_rollbacks_leave_no_gap(database: TestDatabase) -> None:
    """Connections of their own, some of them cut in the middle of an append."""
    stop = asyncio.Event()

    async def write(seed: int) -> None:
        rng = random.Random(seed)
        own = Database(database.url, application="writer")
        log = PostgresEventLog(own)
        for _ in range(25):
            units = [submission()[0] for _ in range(rng.randint(1, 20))]
            task = asyncio.create_task(log.append(units))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * 0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                await task
        await log.close()
        await own.close()

    async def tail() -> list[int]:
        own = Database(database.url)
        log = PostgresEventLog(own)
        seen: list[int] = []
        while True:
            events = await log.read_raw(Position(len(seen)), 100)
            seen += [event.position for event in events]
            if not events and stop.is_set():
                await log.close()
                await own.close()
                return seen
            if not events:
                await log.wait_for_append(Position(len(seen)), 0.1)

    connection = await asyncpg.connect(database.owner_url)

    async def writers_are_gone() -> bool:
        """An append that was cut may still be on its way to its commit, for nobody."""
        sessions = "select count(*) from pg_stat_activity where application_name = 'writer' and datname = $1"
        return not await connection.fetchval(sessions, make_url(database.url).database)

    reader = asyncio.create_task(tail())
    await asyncio.gather(*(write(seed) for seed in range(WRITERS)))
    await until(writers_are_gone, what="the end of all appends")
    stop.set()
    seen = await reader
    assert seen == list(range(1, len(seen) + 1))
    assert await connection.fetchval("select count(*) from events") == len(seen)
    assert await connection.fetchval("select count(*) from jobs") == len(seen)
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update events set type = 'x'",
        "delete from events",
        "truncate events",
        "insert into events values (99, gen_random_uuid(), 1, 'x', '{}', '{}', now())",
        "update jobs set state = 'succeeded'",
        "delete from jobs",
        "update leadership set term = 99",
        "drop table events",
    ],
)
async def test_the_application_can_not_touch_what_was_written(database: TestDatabase, statement: str) -> None:
    connection = await asyncpg.connect(database.url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize("statement", ["update events set type = 'x'", "delete from events", "truncate events"])
async def test_even_the_owner_can_not_change_events(database: TestDatabase, statement: str) -> None:
    own = Database(database.url)
    log = PostgresEventLog(own)
    await log.append([submission()[0]])
    connection = await asyncpg.connect(database.owner_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()
    await log.close()
    await own.close()


async def test_an_append_runs_over_the_end_of_the_last_partition(database: TestDatabase) -> None:
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("drop table events_p0, events_p1; update log_settings set partition_size = 10")
    own = Database(database.url)
    log = PostgresEventLog(own)
    await log.append([submission()[0] for _ in range(35)])
    await log.append([submission()[0]])
    assert await connection.fetchval("select count(*) from pg_inherits where inhparent = 'events'::regclass") >= 4
    assert [event.position for event in await log.read_raw(Position(0), 100)] == list(range(1, 37))
    await connection.close()
    await log.close()
    await own.close()


async def test_two_services_that_make_the_same_partition_do_not_hinder_each_other(database: TestDatabase) -> None:
    first, second, owner = [await asyncpg.connect(url) for url in (database.url, database.url, database.owner_url)]
    make = "select rota_ensure_partitions(1, 3)"
    transaction = first.transaction()
    await transaction.start()
    assert await first.fetchval(make) > 0
    waiting = asyncio.create_task(second.fetchval(make))
    await until(lambda: _waits_for_a_lock(owner, second), what="the second one's wait")
    await transaction.commit()
    assert await waiting == 0
    for connection in (first, second, owner):
        await connection.close()


async def _waits_for_a_lock(observer: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> bool:
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    return bool(await observer.fetchval(query, other.get_server_pid()))


async def test_a_waiter_is_woken_by_another_process(database: TestDatabase) -> None:
    first, second = Database(database.url), Database(database.url)
    reader, writer = PostgresEventLog(first), PostgresEventLog(second)
    waiting = asyncio.create_task(reader.wait_for_append(Position(0), 30))
    await until(lambda: reader._listener is not None, what="the listener")
    await writer.append([submission()[0]])
    await asyncio.wait_for(waiting, 10)
    for log, own in ((reader, first), (writer, second)):
        await log.close()
        await own.close()
