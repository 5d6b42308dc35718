"""Real executor processes against real servers."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.retry import RetryPolicy
from rota_server.domain.jobs.spec import After, Predecessor
from tests.conftest import TestDatabase
from tests.integration.executor_system import System, children_of, system, wait_gone
from tests.waiting import until

TASKS = """
import asyncio
import time

from rota import current_job, task


@task(name="noop")
async def noop(value=None):
    return value


@task(name="speak")
def speak(text):
    print(text)
    current_job().progress(0.5, "spoken")
    return {"said": text}


@task(name="hold")
async def hold(seconds=60.0):
    await asyncio.sleep(seconds)
    return "held"


@task(name="fail")
def fail():
    raise ValueError("on purpose")


@task(name="results")
def results(given=None):
    job = current_job()
    try:
        job.results["nobody"]
    except KeyError as error:
        return {"results": job.results, "given": given, "error": str(error)}


@task(name="surrogate")
def surrogate(where):
    if where == "printed":
        print("a\\ud800b\\x00c")
    if where == "raised":
        raise ValueError("a\\ud800b\\x00c")
    return "a\\ud800b" if where == "returned" else "a\\x00c"
"""

NEWER = """

@task(name="newer")
def newer():
    return "from newer code"
"""


@pytest.fixture
async def rota(database: TestDatabase, redis_url: str, tmp_path: Path) -> AsyncIterator[System]:
    async with system(database.url, redis_url, tmp_path) as found:
        yield found


async def test_jobs_of_every_kind_run_to_their_ends(rota: System) -> None:
    await rota.executor(tasks=TASKS, allow_shell=True)
    (spoken,) = await rota.submit("speak", args={"text": "hello"})
    (shell,) = await rota.submit("shell.run", args={"command": ["echo", "from the shell"]})
    (event,) = await rota.submit(
        "event.publish", args={"source": "/test", "type": "org.example.done", "data": {"a": 1}}
    )
    (failed,) = await rota.submit("fail", retry=RetryPolicy(max_attempts=1))
    noops = await rota.submit("noop", 300, args={"value": "x" * 100})
    await rota.in_state("succeeded", [spoken, shell, event, *noops])
    await rota.in_state("failed", [failed])
    job = await rota.job(spoken)
    assert job.result == {"said": "hello"}
    assert await rota.printed(spoken) == "hello\n"
    assert await rota.printed(shell) == "from the shell\n"
    error = (await rota.job(failed)).error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "on purpose")
    histories = await rota.log.read_streams(noops)
    for history in histories.values():
        assert [type(r.event).__name__ for r in history] == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
    published = await rota.job(event)
    assert published.result["position"] > 0


async def test_jobs_get_what_their_predecessors_have_returned(rota: System) -> None:
    await rota.executor(tasks=TASKS, allow_shell=True)
    first, second = await rota.submit("noop", 2, args={"value": {"words": ["some", "a\x00b"]}})
    await rota.in_state("succeeded", [first, second])
    after = After(predecessors=(Predecessor(id=first, name="first"), Predecessor(id=second, name="second")))
    word = {"$result": "second", "path": "words.0"}
    (told,) = await rota.submit("results", args={"given": word}, after=after)
    (echo,) = await rota.submit("shell.run", args={"command": ["echo", word]}, after=after)
    for job_id in (told, echo):
        await rota.command(job_id, c.MeetDependencies())
    await rota.in_state("succeeded", [told, echo])
    result = (await rota.job(told)).result
    assert result["results"] == {name: {"words": ["some", "a\x00b"]} for name in ("first", "second")}
    assert result["given"] == "some"
    assert result["error"] == "'there is no result of nobody; there are: first, second'"
    assert await rota.printed(echo) == "some\n"


async def test_a_running_job_is_cancelled_through_the_control_stream(rota: System) -> None:
    await rota.executor(tasks=TASKS)
    (job_id,) = await rota.submit("hold")
    await rota.in_state("running", [job_id])
    await rota.command(job_id, c.RequestCancel(reason="enough"))
    await rota.in_state("cancelled", [job_id], timeout_seconds=4)


async def test_text_that_is_none_hurts_nobody_else(rota: System) -> None:
    await rota.executor(tasks=TASKS, task_processes=1)
    retry = RetryPolicy(max_attempts=1)
    (held,) = await rota.submit("hold", args={"seconds": 2})
    await rota.in_state("running", [held])
    ids = {}
    for where in ("printed", "raised", "returned", "nul"):
        (ids[where],) = await rota.submit("surrogate", args={"where": where}, retry=retry)
    await rota.in_state("succeeded", [held, ids["printed"], ids["nul"]])
    await rota.in_state("failed", [ids["raised"], ids["returned"]])
    assert (await rota.job(ids["nul"])).result == "a\x00c"
    error = (await rota.job(ids["returned"])).error
    assert error is not None
    assert error.type == "ResultNotJson"
    error = (await rota.job(ids["raised"])).error
    assert error is not None
    assert error.type == "ValueError"
    printed = await rota.printed(ids["printed"])
    assert printed.startswith("a")
    assert printed.endswith("c\n")


async def test_two_executors_share_the_work_and_start_nothing_twice(rota: System) -> None:
    for _ in range(2):
        await rota.executor(tasks=TASKS, concurrency=20)
    ids = await rota.submit("noop", 1000)
    await rota.in_state("succeeded", ids)
    executors = set()
    for stream in (await rota.log.read_streams(ids)).values():
        assert [type(r.event).__name__ for r in stream] == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]
        executors.add(stream[1].event.executor)  # type: ignore[attr-defined]
    assert len(executors) == 2


async def test_sigterm_in_the_middle_of_a_batch_finishes_what_runs_and_takes_no_more(rota: System) -> None:
    executor = await rota.executor(tasks=TASKS, concurrency=10, drain_seconds=20)
    ids = await rota.submit("hold", 30, args={"seconds": 1.0})

    async def some_run() -> bool:
        return (await rota.states(ids)).get("running", 0) == 10

    await until(some_run)
    children = children_of(executor.pid)
    executor.signal(signal.SIGTERM)

    async def says_so() -> bool:
        return [member.info["draining"] for member in await rota.coordination.members("executor")] != [False]

    await until(says_so, what="the draining executor's word")
    assert executor.wait() == 0, executor.said()
    assert await rota.states(ids) == {"succeeded": 10, "queued": 20}
    assert await rota.coordination.members("executor") == []
    wait_gone(children)

    await rota.executor(tasks=TASKS, concurrency=30)
    await rota.in_state("succeeded", ids)
    histories = await rota.log.read_streams(ids)
    assert all(len(history) == 3 for history in histories.values())


async def test_sigterm_gives_back_what_does_not_end_within_the_drain(rota: System) -> None:
    executor = await rota.executor(tasks=TASKS, concurrency=10, drain_seconds=0.2, allow_shell=True)
    held = await rota.submit("hold", 5)
    shells = await rota.submit("shell.run", 2, args={"command": ["sleep", "60"]})
    await rota.in_state("running", [*held, *shells])
    children = children_of(executor.pid)
    executor.signal(signal.SIGTERM)
    assert executor.wait(15) == 0, executor.said()
    assert await rota.states([*held, *shells]) == {"retrying": 7}
    job = await rota.job(held[0])
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("Lost", "its executor stopped")
    wait_gone(children)


async def connections_cut(database: TestDatabase) -> int:
    """End the sessions of executors, which only the database's owner may; how many there were."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        rows = await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'rota-executor' and datname = current_database()"
        )
    finally:
        await connection.close()
    return len(rows)


async def test_a_batch_goes_on_after_all_connections_to_the_log_are_cut(rota: System, database: TestDatabase) -> None:
    await rota.executor(tasks=TASKS, concurrency=20)
    ids = await rota.submit("hold", 600, args={"seconds": 0.2})
    cut = 0
    for _ in range(3):
        before = (await rota.states(ids)).get("succeeded", 0)

        async def moved(before: int = before) -> bool:
            return (await rota.states(ids)).get("succeeded", 0) > before

        await until(moved)
        cut += await connections_cut(database)
    assert cut >= 3
    await rota.in_state("succeeded", ids)
    histories = await rota.log.read_streams(ids)
    assert all(len(history) == 3 for history in histories.values())


async def test_tasks_that_can_not_be_loaded_are_a_wrong_setting(rota: System) -> None:
    executor = rota.spawn(tasks="def broken(:\n")
    assert executor.wait() == 2
    assert "SyntaxError" in executor.said()
    assert await rota.coordination.members("executor") == []


async def test_an_idle_executor_is_small_and_waiting_jobs_do_not_make_it_grow(rota: System) -> None:
    executor = await rota.executor(tasks=TASKS, concurrency=5)
    held = await rota.submit("hold", 5)
    await rota.in_state("running", held)
    process = psutil.Process(executor.pid)
    at_rest = process.memory_info().rss
    assert at_rest < 150_000_000
    await rota.submit("hold", 5000)
    (last,) = await rota.submit("hold", priority="high")
    await rota.command(held[0], c.RequestCancel())
    await rota.in_state("running", [last])
    assert process.memory_info().rss - at_rest < 10_000_000


async def test_executors_of_different_code_share_a_queue_and_each_job_goes_to_one_that_has_its_task(
    rota: System,
) -> None:
    await rota.executor(tasks=TASKS, concurrency=2)
    strange = await rota.submit("newer", 300, retry=RetryPolicy(max_attempts=1))
    known = await rota.submit("noop", 20)
    await rota.in_state("succeeded", known)
    assert await rota.states(strange) == {"queued": 300}
    await rota.executor(tasks=TASKS + NEWER, concurrency=2)
    await rota.in_state("succeeded", strange)
    later = await rota.submit("newer", 40, retry=RetryPolicy(max_attempts=1))
    await rota.in_state("succeeded", later)
    assert await rota.types(strange[0]) == ["JobSubmitted", "AttemptStarted", "AttemptSucceeded"]


async def test_the_shell_is_left_to_executors_that_may_use_it(rota: System) -> None:
    await rota.executor()
    (job_id,) = await rota.submit("shell.run", args={"command": ["true"]}, retry=RetryPolicy(max_attempts=1))
    (event,) = await rota.submit("event.publish", args={"source": "/test", "type": "org.example.done"})
    await rota.in_state("succeeded", [event])
    assert (await rota.job(job_id)).state == "queued"
    await rota.executor(allow_shell=True)
    await rota.in_state("succeeded", [job_id])
