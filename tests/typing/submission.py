"""Never run: how a type checker sees submissions. A line that must not pass ends with mypy's code of the error."""

from __future__ import annotations

from typing import Any, assert_type

from rota import AsyncClient, AsyncJobHandle, Client, Job, JobHandle, Workflow, task


@task
def greet(name: str, times: int = 1) -> str:
    return name * times


@task(queue="mail", timeout=30, retry={"max_attempts": 3, "backoff": "fixed"}, unique={"while": "queued"})
async def welcome(to: str, timeout: float = 1.0) -> dict[str, int]:
    return {to: 1}


def calls() -> None:
    assert_type(greet("Ada"), str)
    greet(nmae="Ada")  # call-arg
    assert_type(greet.submit("Ada"), JobHandle[str])
    assert_type(greet.submit(name="Ada", times=2).wait(60), Job[str])
    assert_type(greet.submit(name="Ada").wait().result, str)
    assert_type(welcome.submit(to="a").wait().result, dict[str, int])
    assert_type(welcome.options(delay=10, timeout=None).submit(to="a", timeout=2), JobHandle[dict[str, int]])
    assert_type(greet.job(name="Ada"), dict[str, Any])
    greet.submit(nmae="Ada")  # call-arg
    greet.submit(name=5)  # arg-type
    greet.submit()  # call-arg
    greet.submit(name="Ada", delay=10)  # call-arg
    welcome.options(delay=10).submit(to=5)  # arg-type
    welcome.options(idempotent=True).submit(to="a")
    welcome.options(idempotent="yes")  # arg-type
    welcome.options(dealy=10)  # call-arg
    welcome.options(priority="urgent")  # arg-type
    welcome.options(retry={"backof": "fixed"})  # arg-type
    welcome.options(retry={"backoff": "quick"})  # arg-type
    welcome.options(unique={"while": "forever"})  # arg-type


async def asynchronous(client: AsyncClient) -> None:
    assert_type(await welcome("a"), dict[str, int])
    assert_type(await welcome.asubmit(to="a"), AsyncJobHandle[dict[str, int]])
    assert_type((await (await client.submit(greet, name="Ada")).wait()).result, str)
    await welcome.asubmit(ot="a")  # call-arg
    await client.submit(greet, name="Ada", priority="urgent")  # call-overload
    await client.submit("greet", name="Ada", delay="soon")  # call-overload
    await client.schedules.create("s", greet.job("Ada"), every=60, jiter=1)  # call-arg


def clients(client: Client) -> None:
    assert_type(client.submit(greet, name="Ada", delay=10), JobHandle[str])
    assert_type(client.submit(welcome.options(delay=1), to="a"), JobHandle[dict[str, int]])
    assert_type(client.submit("greet", name="Ada").wait().result, Any)
    client.submit(greet, name="Ada", priority="urgent")  # call-overload
    client.submit(5)  # call-overload
    flow = Workflow("w")
    flow.add("a", greet, name="Ada")
    flow.add("b", greet, args={"name": "Ada"}, after=["a"], on_failure="hold", delay=5)
    flow.add("c", greet, name="Ada", on_failure="wait")  # arg-type
    flow.add("d", greet, name="Ada", priority="urgent")  # arg-type
    assert_type(client.submit_workflow(flow).job("a"), JobHandle[Any])
    assert_type(client.submit_many([greet.job(name="Ada")]), list[dict[str, Any]])
    client.submit_many([greet.job(nmae="Ada")])  # call-arg
    client.submit_batch([greet.options(delay=1).job("Ada")], then=welcome.job(to=5))  # arg-type
    client.schedules.create("s", greet.job("Ada"), cron="0 9 * * *", timezone="UTC", fold="last")
    client.schedules.create("s", greet.job("Ada"), crno="0 9 * * *")  # call-arg
    client.schedules.create("s", greet.job("Ada"), every="1 h")  # arg-type
    client.schedules.change("s", fold="never")  # arg-type
    job = client.get("1")
    if job.state == "sleeping":  # comparison-overlap
        return


@task(priority="urgent")  # call-overload
def wrong_priority() -> None: ...


@task(alert={"email": "ops@example.org", "webhook": {"$secret": "hook"}})
def alerting() -> None: ...


@task(alert={"mail": "ops@example.org"})  # call-overload
def wrong_alert() -> None: ...


@task(retry={"initial_delay": 1})  # call-overload
def wrong_retry() -> None: ...
