"""A job as a program asks for it: what is the task's, and what is the job's."""

from __future__ import annotations

import pickle
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from rota import Job, Mismatch, Refused, Workflow, enqueue, job, task


@task(name="jobs.fetch", queue="web")
def fetch(url: str, timeout: float = 1.0, key: str | None = None) -> set[str]:
    return {url}


@task(name="jobs.run")
def run(args: list[str]) -> None: ...


@task(name="jobs.welcome")
def welcome(to: str) -> None: ...


@task(name="jobs.sync", idempotent=True)
def sync(idempotent: str = "") -> None: ...


@task(name="jobs.anything")
def anything(first: int, **rest: Any) -> None: ...


def test_a_keyword_that_is_an_argument_and_an_option_is_refused_with_the_ways_out() -> None:
    with pytest.raises(TypeError, match=r"'timeout' is an argument of jobs.fetch and an option of jobs") as refused:
        job(fetch, url="x", timeout=9)
    assert "args={'timeout': ...}" in str(refused.value)
    assert "task.options(timeout=...).submit(...)" in str(refused.value)
    with pytest.raises(TypeError, match="'key' is an argument"):
        job(fetch, url="x", key=None)
    with pytest.raises(TypeError, match="'timeout' is an argument"):
        Workflow("w").add("a", fetch, url="x", timeout=9)
    with pytest.raises(TypeError, match=r"'args' is an argument of jobs\.run"):
        job(run, args={"a": 1})


def test_options_and_arguments_of_one_name_both_have_their_way() -> None:
    wanted = {"task": "jobs.fetch", "args": {"url": "x", "timeout": 5}, "queue": "web", "timeout": 9}
    assert fetch.options(timeout=9).job("x", timeout=5) == wanted
    assert job(fetch.options(timeout=9), url="x", args={"timeout": 5}) == wanted
    assert job(fetch, args={"url": "x", "timeout": 5}, timeout=9) == wanted
    assert job("jobs.fetch", args={"url": "x", "timeout": 5}, queue="web", timeout=9) == wanted
    assert fetch.job(url="x", timeout=5) == {"task": "jobs.fetch", "args": {"url": "x", "timeout": 5}, "queue": "web"}
    assert run.job(["ls"]) == {"task": "jobs.run", "args": {"args": ["ls"]}}
    assert job(run, args={"args": ["ls"]}) == run.job(["ls"])
    assert job(welcome, to="a@example.org", delay=10) == {
        "task": "jobs.welcome",
        "args": {"to": "a@example.org"},
        "delay": 10,
    }


def test_a_submission_may_say_otherwise_whether_a_task_may_be_repeated() -> None:
    assert welcome.options(idempotent=True).job(to="a")["idempotent"] is True
    assert job(welcome, to="a", idempotent=True)["idempotent"] is True
    assert job("jobs.welcome", to="a", idempotent=False)["idempotent"] is False
    assert "idempotent" not in job(welcome, to="a")
    assert sync.job()["idempotent"] is True
    assert sync.options(idempotent=False).job(idempotent="its own")["idempotent"] is False
    with pytest.raises(TypeError, match="'idempotent' is an argument of"):
        job(sync, idempotent=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: job(welcome, too="a"), "jobs.welcome takes no argument 'too'; did you mean 'to'?"),
        (lambda: job(welcome, address="a"), "takes no argument 'address'; it takes to"),
        (lambda: job(welcome), "jobs.welcome needs the argument 'to'"),
        (lambda: welcome.job("a", "b"), "takes 1 arguments by position, not 2"),  # type: ignore[call-arg]
        (lambda: welcome.job("a", to="b"), "two values for the argument 'to'"),  # type: ignore[misc]
        (lambda: welcome.options(dealy=1), "unexpected keyword argument 'dealy'"),  # type: ignore[call-arg]
        (lambda: welcome.job(to="a", delay=9), "it is an option of jobs: write task.options(delay=...) for it"),  # type: ignore[call-arg]
        (lambda: anything.job(rest=1), "needs the argument 'first'"),  # type: ignore[call-arg]
    ],
)
def test_arguments_that_the_task_does_not_take_are_refused_at_once(make: Any, said: str) -> None:
    with pytest.raises(TypeError) as refused:
        make()
    assert said in str(refused.value)


def test_a_task_with_any_keyword_takes_any() -> None:
    assert job(anything, first=1, second=2)["args"] == {"first": 1, "second": 2}


def test_the_result_of_a_job_is_what_the_task_says_that_it_returns() -> None:
    fields = {"id": "1", "task": "jobs.fetch", "state": "succeeded", "result": ["a", "b"]}
    found = Job[set[str]](fields, fetch.signature)
    assert found.result == {"a", "b"}
    assert found.fields["result"] == ["a", "b"]
    assert Job(fields).result == ["a", "b"]
    assert Job({**fields, "result": None}, fetch.signature).result is None
    with pytest.raises(Mismatch, match="'x' is no JSON array"):
        _ = Job({**fields, "result": "x"}, fetch.signature).result
    assert pickle.loads(pickle.dumps(Job(fields))).state == "succeeded"  # noqa: S301 - our own


def test_arguments_in_a_job_are_json() -> None:
    made = job("t", args={"on": date(2027, 1, 1)}, price=Decimal("1.5"))
    assert made["args"] == {"on": "2027-01-01", "price": "1.5"}


class Nothing:
    """A connection that must not be used."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def test_a_job_in_a_transaction_is_held_against_the_tasks_of_this_process() -> None:
    with pytest.raises(Refused, match=r"timeout: is an argument of jobs\.fetch and an option of jobs"):
        enqueue(Nothing(), "jobs.fetch", url="x", timeout=9)
    with pytest.raises(TypeError, match="an option of jobs"):
        enqueue(Nothing(), fetch, url="x", timeout=9)
