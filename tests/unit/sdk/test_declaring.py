"""Options that no job could have are refused where a task is declared, exactly those that the store would refuse."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import ValidationError

from rota import Task, task
from rota.declaring import check_options
from rota.tasks import registered
from rota.worker.loading import _catalogue
from rota_server.apps.store.jobs.parsing import JobRequest
from rota_server.domain.alerts import declared_alert
from rota_server.domain.errors import Rejected

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"priority": "urgent"}, "priority: must be high, normal, low, not 'urgent'"),
    ({"priority": "hihg"}, "did you mean 'high'"),
    ({"retry": {"backof": 1}}, "retry.backof: there is no such field; did you mean 'backoff'?"),
    ({"retry": {"initial_delay": 1}}, "retry.initial_delay: there is no such field; did you mean 'initial'?"),
    ({"retry": {"max_attempts": 0}}, "retry.max_attempts: must be from 1 to 1000, not 0"),
    ({"retry": {"max_attempts": 2.5}}, "retry.max_attempts: must be a whole number"),
    ({"retry": {"factor": 0.5}}, "retry.factor: must be from 1"),
    ({"retry": {"jitter": 2}}, "retry.jitter: must be from 0 to 1"),
    ({"retry": {"initial": float("nan")}}, "retry.initial: must be"),
    ({"retry": 3}, "retry: must be a dict, not 3"),
    ({"queue": "two words"}, "queue: must have 1 to 100 letters"),
    ({"queue": ""}, "queue: must have"),
    ({"queue": 5}, "queue: must be a text"),
    ({"timeout": "30s"}, "timeout: must be a number, not '30s'"),
    ({"timeout": True}, "timeout: must be a number, not True"),
    ({"timeout": 0}, "timeout: must be above 0"),
    ({"timeout": 30 * 24 * 3600 + 1}, "timeout: must be above 0"),
    ({"tags": {"n": 1}}, "tags.n: must be a text, not 1"),
    ({"tags": {"two words": "x"}}, "tags: a tag's name"),
    ({"tags": {"n": "x" * 257}}, "tags.n: must have up to 256"),
    ({"tags": {str(n): "" for n in range(21)}}, "tags: at most 20"),
    ({"tags": "a"}, "tags: must be a dict"),
    ({"unique": {"while": "forever"}}, "unique.while: must be queued, running, unfinished"),
    ({"unique": {"while": 0}}, "unique.while: must be above 0"),
    ({"unique": {"key": ""}}, "unique.key: must have 1 to 200"),
    ({"unique": {"on_conflict": "wait"}}, "unique.on_conflict: must be reject"),
    ({"unique": {"scope": "queued"}}, "unique.scope: there is no such field"),
]
RIGHT: list[dict[str, Any]] = [
    {"priority": "low", "queue": "a.b-c_9", "timeout": None, "tags": {"a/b": ""}, "retry": {}, "unique": {}},
    {"timeout": 0.5, "retry": {"max_attempts": 1000, "backoff": "linear", "initial": 0, "factor": 1, "maximum": 0}},
    {"timeout": 30 * 24 * 3600, "retry": {"jitter": 1}, "tags": {str(n): "x" * 256 for n in range(20)}},
    {"unique": {"key": "é" * 200, "while": 1.5, "on_conflict": "keep latest"}},
    {"unique": {"key": None, "while": "running", "on_conflict": "Return existing"}},
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_options_that_no_job_could_have_are_refused_where_the_task_is_declared(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        task(**options)
    assert said in str(refused.value)
    with pytest.raises(ValidationError):
        JobRequest.model_validate({"task": "t", **options})


@pytest.mark.parametrize("options", RIGHT)
def test_options_that_the_store_takes_are_taken(options: dict[str, Any]) -> None:
    check_options(options)
    JobRequest.model_validate({"task": "t", **options})


ALERTS_WRONG: list[tuple[Any, str]] = [
    ({}, "alert: needs email or webhook"),
    ({"queue": "ops"}, "alert: needs email or webhook"),
    ("ops@example.org", "alert: must be a dict"),
    ({"sms": "1"}, "alert.sms: there is no such field"),
    ({"email": "nobody"}, "alert.email: must be an address"),
    ({"email": ["a@example.org", "b\n@example.org"]}, "alert.email: must be an address"),
    ({"email": []}, "alert.email: takes 1 to 100 addresses"),
    ({"email": 5}, "alert.email: must be an address or a list of them"),
    ({"webhook": "ftp://example.org"}, "alert.webhook: must be an http or https URL"),
    ({"webhook": "http://example.org:65536/"}, "alert.webhook: must have a host, and a port"),
    ({"webhook": {"secret": "x"}}, "alert.webhook: must be a URL, or a secret"),
    ({"email": "a@example.org", "queue": "two words"}, "alert.queue: must have 1 to 100 letters"),
]


@pytest.mark.parametrize(("alert", "said"), ALERTS_WRONG)
def test_an_alert_that_nobody_would_get_is_refused_where_the_task_is_declared(alert: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        task(alert=alert)
    assert said in str(refused.value)
    with pytest.raises(Rejected):
        declared_alert(alert)


@pytest.mark.parametrize(
    "alert",
    [
        {"email": "ops@example.org"},
        {"email": ["a+b@example.org", "ü@example.org"], "webhook": "https://u@example.org:8443/a?b=c", "queue": "ops"},
        {"webhook": {"$secret": "hook", "prefix": "https://example.org/"}},
    ],
)
def test_an_alert_travels_with_the_announced_task_and_not_with_its_jobs(alert: Any) -> None:
    @task(name="declaring.alerting", queue="q", alert=alert)
    def alerting() -> None: ...

    assert declared_alert(_catalogue()["declaring.alerting"]["options"]["alert"]) == alert
    assert alerting.job() == {"task": "declaring.alerting", "args": {}, "queue": "q"}
    del registered()["declaring.alerting"]


def test_what_can_be_no_task_is_refused_where_it_is_declared() -> None:
    def pages() -> Any:
        yield 1

    async def stream() -> Any:
        yield 1

    for function in (pages, stream):
        with pytest.raises(TypeError, match="is a generator: `return` a list"):
            task(function)
    with pytest.raises(TypeError, match="decorates a function"):
        task(Task)
    with pytest.raises(ValueError, match="name: must begin with a letter"):
        task(name="two words")(lambda: None)
    assert "two words" not in registered()


def test_a_task_may_be_declared_in_a_program_that_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)

    def typed() -> None: ...

    typed.__module__ = "__main__"
    typed.__qualname__ = "typed"
    assert task(typed).name == "__main__.typed"
