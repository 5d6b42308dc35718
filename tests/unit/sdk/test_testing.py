"""Tests of users' tasks: a job to run for, a client in memory, and the fixtures of the plugin."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from rota import Conflict, JobFailed, NoRetry, NotFound, Refused, Retry, WaitTimeout, Workflow, current_job, task
from rota.testing import MemoryClient, RunningJob, running_job

START = datetime(2027, 1, 1, tzinfo=UTC)


@task(name="testing.welcome", queue="mail", retry={"max_attempts": 3, "initial": 10})
async def welcome(to: str, on: date | None = None) -> dict[str, Any]:
    current_job().progress(0.5, "half way")
    return {"sent": to, "on": on, "attempt": current_job().attempt, "queue": current_job().queue}


@task(name="testing.flaky", retry={"max_attempts": 3, "initial": 10}, no_retry_on=KeyError)
def flaky(kind: str) -> set[str]:
    attempt = current_job().attempt
    if kind == "retry" and attempt == 1:
        raise Retry(after=3600)
    if kind == "twice" and attempt < 3:
        raise OSError("busy")
    if kind in ("never", "key", "no"):
        raise {"never": OSError, "key": KeyError, "no": NoRetry}[kind]("x")
    return {kind}


@task(name="testing.chain")
def chain(depth: int) -> int:
    if depth:
        chain.options(delay=60).submit(depth - 1)
    return depth


@pytest.fixture
def client() -> Any:
    with MemoryClient(now=START) as client:
        yield client


def test_a_task_that_is_called_as_a_function_has_a_job_to_run_for() -> None:
    with running_job(attempt=2, results={"load": 3}, cancelled=True) as job:
        current_job().progress(0.25)
        assert (current_job().attempt, current_job().results["load"], current_job().cancelled) == (2, 3, True)
    assert job.reports == [(0.25, None)]
    with pytest.raises(RuntimeError):
        current_job()


def test_jobs_run_when_the_test_says_so_with_arguments_and_results_as_they_travel(client: MemoryClient) -> None:
    handle = welcome.options(priority="high").submit(to="a", on=date(2027, 1, 1))
    assert handle.refresh().state == "queued"
    assert [job.id for job in client.run_due()] == [handle.id]
    job = handle.wait(1)
    assert job.result == {"sent": "a", "on": "2027-01-01", "attempt": 1, "queue": "mail"}
    assert client.progress_of(job.id) == [(0.5, "half way")]
    assert flaky.submit("fine").wait().result == {"fine"}
    assert [job.task for job in client.list(state="succeeded")] == ["testing.flaky", "testing.welcome"]


async def test_an_async_task_runs_within_a_test_that_is_async_itself(client: MemoryClient) -> None:
    assert welcome.submit("a").wait().state == "succeeded"


def test_time_passes_only_as_the_test_lets_it(client: MemoryClient) -> None:
    later = client.submit(welcome, to="a", delay=60)
    with pytest.raises(WaitTimeout):
        later.wait(30)
    assert (client.now, later.refresh().state) == (START + timedelta(seconds=30), "scheduled")
    assert client.advance(29) == []
    assert [job.id for job in client.advance(timedelta(seconds=1))] == [later.id]
    chain.submit(3)
    assert [job.args["depth"] for job in client.advance(600)] == [3, 2, 1, 0]
    expiring = client.submit(welcome, to="a", delay=60, expires_at=client.now + timedelta(seconds=30))
    client.advance(60)
    assert expiring.refresh().state == "expired"


def test_attempts_are_repeated_by_the_policy_of_the_job(client: MemoryClient) -> None:
    handle = flaky.submit("twice")
    assert (handle.wait().attempt, client.now) == (3, START + timedelta(seconds=30))
    asked = flaky.submit("retry")
    began = client.now
    assert (asked.wait().attempt, client.now - began) == (2, timedelta(hours=1))
    with pytest.raises(JobFailed) as failed:
        flaky.submit("never").wait()
    assert (failed.value.job.attempt, failed.value.error["type"]) == (3, "OSError")
    for kind in ("key", "no"):
        assert flaky.submit(kind).wait(raise_on_failure=False).attempt == 1
    again = client.retry(failed.value.job.id)
    assert again.state == "queued"


def test_a_client_in_memory_refuses_what_the_store_refuses_and_says_what_it_can_not_do(client: MemoryClient) -> None:
    with pytest.raises(Refused, match=r"no task 'no\.such'"):
        client.submit("no.such")
    with pytest.raises(Refused, match="did you mean 'to'"):
        client.submit("testing.welcome", too="a")
    with pytest.raises(NotFound):
        client.get("1")
    with pytest.raises(Refused, match="there is no job '1'"):
        client.submit(welcome, to="a", after=["1"])
    calls: dict[str, Any] = {
        "create_trigger": lambda: client.create_trigger("t", match={}, job={}),
        "calendars": lambda: client.calendars,
        "GET /v1/queues": lambda: client.call("GET", "/v1/queues"),
        "schedules.backfill": lambda: client.schedules.backfill("s", START, START),
        "rrule": lambda: client.schedules.create("s", welcome.job("a"), rrule="FREQ=DAILY"),
        "jitter": lambda: client.schedules.create("s", welcome.job("a"), every=60, jitter=5),
        "overlap": lambda: client.schedules.create("s", welcome.job("a"), every=60, overlap="queue"),
    }
    for name, call in calls.items():
        with pytest.raises(NotImplementedError, match=name):
            call()
    one = client.submit(welcome, to="a", unique={"key": "k"})
    assert client.submit(welcome, to="b", unique={"key": "k"}).id == one.id
    with pytest.raises(Conflict):
        client.submit(welcome, to="b", unique={"key": "k", "on_conflict": "reject"})
    assert (
        client.submit(welcome, to="a", idempotency_key="i").id == client.submit(welcome, to="a", idempotency_key="i").id
    )
    assert one.cancel("enough").state == "cancelled"
    done = client.submit(welcome, to="a")
    done.wait()
    with pytest.raises(Conflict):
        done.cancel()
    assert [r["status"] for r in client.submit_many([welcome.job("a"), {"task": "no.such"}])] == [201, 422]


def test_schedules_tick_when_the_clock_comes_to_their_times(client: MemoryClient) -> None:
    client.schedules.create("nightly", welcome.job("a"), cron="15 2 * * *", timezone="Europe/Berlin")
    client.schedules.create("twice", chain.job(0), at=[START + timedelta(hours=1), START + timedelta(hours=30)])
    ran = client.advance(timedelta(days=2))
    assert [(job.task, job.submitted_at[:16]) for job in ran] == [
        ("testing.chain", "2027-01-01T01:00"),
        ("testing.welcome", "2027-01-01T01:15"),
        ("testing.welcome", "2027-01-02T01:15"),
        ("testing.chain", "2027-01-02T06:00"),
    ]
    assert [tick["outcome"] for tick in client.schedules.ticks("nightly")] == ["ticked", "ticked"]
    client.schedules.pause("nightly")
    assert client.advance(timedelta(days=1)) == []
    client.schedules.resume("nightly")
    client.schedules.change("nightly", every=3600, cron=None, timezone=None, end=client.now + timedelta(hours=2))
    assert len(client.advance(timedelta(days=1))) == 2
    assert client.schedules.get("nightly").next_at is None


def test_a_tick_is_left_out_while_a_job_of_the_schedule_has_not_ended(client: MemoryClient) -> None:
    client.schedules.create("busy", flaky.job("retry"), every=1800, overlap="skip", start=START)
    client.advance(timedelta(minutes=85))
    outcomes = [(tick["utc"][11:16], tick["outcome"]) for tick in client.schedules.ticks("busy")]
    assert outcomes == [("01:00", "skipped"), ("00:30", "ticked")]


def test_jobs_that_wait_for_others_go_in_order_within_the_time_that_passes(client: MemoryClient) -> None:
    flow = Workflow("flow")
    first = flow.add("first", chain, args={"depth": 0}, delay=60)
    flow.add("second", welcome, args={"to": "a"}, after=[first])
    handle = client.submit_workflow(flow)
    assert [handle.job(node).refresh().state for node in ("first", "second")] == ["scheduled", "waiting"]
    assert client.advance(59) == []
    assert [job.task for job in client.advance(1)] == ["testing.chain", "testing.welcome"]
    assert handle.refresh().state == "succeeded"
    assert [group.name for group in client.workflows(state="succeeded")] == ["flow"]
    with pytest.raises(WaitTimeout, match="batch"):
        client.submit_batch([welcome.options(delay=60).job("a")]).wait(timeout=30)


async def test_async_code_submits_and_waits_likewise(client: MemoryClient) -> None:
    handle = await welcome.options(delay=60).asubmit("a")
    assert (await handle.refresh()).state == "scheduled"
    assert (await handle.wait(60)).result["sent"] == "a"
    flow = Workflow("flow")
    flow.add("only", welcome, args={"to": "b"})
    group = await client.awaited.submit_workflow(flow)
    assert (await group.wait(1)).state == "succeeded"
    assert (await (await group.job("only")).refresh()).result["sent"] == "b"
    await client.awaited.schedules.create("hourly", welcome.job("c"), every=3600)
    assert [one.name async for one in client.awaited.schedules.list()] == ["hourly"]
    assert [job.args["to"] async for job in client.awaited.list()] == ["b", "a"]


def test_stubs_stand_for_tasks_that_are_elsewhere_and_events_are_kept() -> None:
    with MemoryClient(stubs={"http.request": lambda **args: {"status": 200, "url": args["url"]}}) as client:
        assert client.submit("http.request", url="x").wait().result == {"status": 200, "url": "x"}
        client.publish({"type": "t", "source": "/"})
        assert client.published[0]["type"] == "t"


def test_the_plugin_gives_tests_a_client_and_a_job(rota_client: MemoryClient, rota_job: RunningJob) -> None:
    handle = chain.submit(0)
    assert [job.id for job in rota_client.run_due()] == [handle.id]
    current_job().progress(1.0, "done")
    assert rota_job.reports == [(1.0, "done")]
