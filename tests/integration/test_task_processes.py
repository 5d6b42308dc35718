from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from rota_server.apps.executor.attempts import Attempt, Cancelled, Lost, Outcome, Succeeded
from rota_server.apps.executor.processes.pool import TaskProcesses
from rota_server.apps.executor.processes.runs import Patience, Run, outcome_of
from tests.integration.task_harness import Harness, Recorder, failed
from tests.waiting import until, until_sync

TASKS = Path(__file__).with_name("process_tasks.py")
IMPATIENT = Patience(cancel=0.3, timeout=0.3, neighbours=0.6, begin=30)

Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[TaskProcesses] = []

    async def start_some(*targets: str, count: int = 1, patience: Patience = IMPATIENT, **more: Any) -> Harness:
        processes = TaskProcesses(targets or [str(TASKS)], count=count, slots=64, patience=patience, **more)
        started.append(processes)
        await processes.start()
        return Harness(processes)

    yield start_some
    for processes in started:
        await processes.close()
        assert processes.pids == []


# -- what runs ---------------------------------------------------------------------------------------------------------


async def test_the_catalogue_says_what_can_be_run_and_how(start: Start) -> None:
    harness = await start(count=2)
    tasks = harness.processes.tasks
    assert len(harness.processes.pids) == 2
    assert tasks["process_tasks.plain_echo"] == {
        "options": {
            "queue": "slow",
            "priority": "low",
            "timeout": 30,
            "retry": {"max_attempts": 2},
            "tags": {"kind": "test"},
        },
        "parameters": {"value": True, "other": False},
        "types": {"other": ["integer"]},
        "any_keyword": False,
        "async": False,
        "cancel_grace": 1.0,
    }
    assert tasks["process_tasks.takes_anything"]["any_keyword"]
    assert tasks["process_tasks.echo"]["async"]


async def test_async_and_plain_tasks_answer_their_results(start: Start) -> None:
    harness = await start()
    value = {"text": "ü\n", "numbers": [1, 2.5, None, True]}
    assert await harness.run("echo", value=value) == Succeeded(value)
    assert await harness.run("plain_echo", value=value) == Succeeded(value)
    assert await harness.run("unusual", kind="tuple") == Succeeded([1, {"a": [2**64 - 1, -(2**63)]}])


async def test_arguments_become_what_the_annotations_say_and_results_what_json_has(start: Start) -> None:
    harness = await start()
    parcel = {"weight": "1.25", "sent": "2027-02-28"}
    assert await harness.run("typed", parcel=parcel, labels=["b", "a"], wait=86400) == Succeeded(
        {"total": "2.50", "next": "2027-03-01", "labels": ["a", "b"], "raw": "eA=="}
    )
    wrong = failed(await harness.run("typed", parcel={"weight": "heavy", "sent": "2027-02-28"}, labels=[]))
    assert (wrong.type, wrong.message, wrong.retryable) == (
        "WrongArguments",
        "args.parcel.weight: 'heavy' is no decimal number",
        False,
    )


async def test_many_attempts_share_the_processes(start: Start) -> None:
    harness = await start(count=2)
    outcomes = await asyncio.gather(*(harness.run("about_process", names=[]) for _ in range(40)))
    assert {outcome.result["pid"] for outcome in outcomes} == set(harness.processes.pids)


async def test_a_task_knows_its_job(start: Start) -> None:
    harness = await start()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    attempt = Attempt(
        job_id=uuid4(),
        number=3,
        task="process_tasks.about_me",
        args={},
        queue="mail",
        tags={"team": "a"},
        traceparent=trace,
    )
    assert await harness.processes.run(attempt, harness.sink) == Succeeded(
        {
            "id": str(attempt.job_id),
            "attempt": 3,
            "queue": "mail",
            "tags": {"team": "a"},
            "traceparent": trace,
            "same_in_thread": True,
            "opentelemetry": False,
        }
    )


async def test_a_span_of_the_task_continues_the_trace_when_traces_are_wanted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    harness = await start()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    attempt = Attempt(job_id=uuid4(), number=1, task="process_tasks.about_me", args={}, traceparent=trace)
    outcome = await harness.processes.run(attempt, harness.sink)
    inner = outcome.result["traceparent"]
    assert inner.split("-")[1] == trace.split("-")[1]
    assert inner.split("-")[2] != trace.split("-")[2]


async def test_the_environment_is_the_users_without_rotas_secrets(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = ["ROTA_DATABASE_URL", "ROTA_REDIS_URL", "ROTA_API_TOKENS", "ROTA_DATABASE_URL_FILE", "ROTA_SMTP_PASSWORD"]
    for name in secret:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("MY_SETTING", "mine")
    harness = await start()
    outcome = await harness.run("about_process", names=[*secret, "MY_SETTING"])
    assert outcome.result["environment"] == {**dict.fromkeys(secret), "MY_SETTING": "mine"}
    assert outcome.result["stdin"] == ""
    assert outcome.result["arguments"] == []


async def test_wrong_arguments_are_a_failure_of_their_own_kind_and_an_unknown_task_is_a_loss(start: Start) -> None:
    harness = await start()
    wrong = failed(await harness.run("nap", minutes=1))
    assert (wrong.type, wrong.retryable) == ("WrongArguments", False)
    assert "minutes" in wrong.message
    unknown = await harness.run("no_such_task")
    assert unknown == Lost("the task process has no task process_tasks.no_such_task", handed_back=True, begun=False)


# -- what tasks print --------------------------------------------------------------------------------------------------


async def test_output_belongs_to_the_job_that_printed_it(start: Start) -> None:
    harness = await start(count=2)
    attempts = {
        name: harness.attempt("talk" if number % 2 else "talk_in_thread", name=name, lines=20)
        for number in range(16)
        for name in [f"job-{number}"]
    }
    await asyncio.gather(*(harness.begin(attempt) for attempt in attempts.values()))
    for name, attempt in attempts.items():
        lines = harness.sink.of(attempt).splitlines()
        assert lines[:20] == [f"{name} {line}" for line in range(20)]
        if attempt.task.endswith("talk"):
            assert harness.sink.of(attempt, "stderr") == f"INFO talk: {name} logs\n{name} errs"
        else:
            assert lines[20:] == [f"{name} in bytes"]


async def test_output_of_a_subprocess_belongs_to_the_only_attempt(start: Start) -> None:
    harness = await start()
    for task in ("run_echo", "fork_and_print"):
        attempt = harness.attempt(task, text="from a child")
        assert await harness.begin(attempt) == Succeeded(None)
        assert harness.sink.of(attempt) == "from a child\n"


async def test_output_of_nobody_in_particular_goes_to_the_executors_log(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    harness = await start()
    end = tmp_path / "end"
    attempts = [harness.attempt("run_echo_until", text="whose is it", path=str(end)) for _ in range(2)]
    running = [harness.begin(attempt) for attempt in attempts]
    await until(lambda: caplog.text.count("whose is it") == 2)
    end.touch()
    await asyncio.gather(*running)
    assert not harness.sink.printed


async def test_a_single_text_beyond_the_limit_is_cut_before_it_is_sent(start: Start) -> None:
    harness = await start()
    attempt = harness.attempt("print_at_once", size=5_000_000)
    assert await harness.begin(attempt) == Succeeded(None)
    assert len(harness.sink.of(attempt)) == 2_000_000


async def test_progress_is_limited_and_the_last_word_wins(start: Start, tmp_path: Path) -> None:
    harness = await start()
    assert await harness.run("report", times=500) == Succeeded(None)
    assert harness.sink.reported[-1] == (1.0, "done")
    assert len(harness.sink.reported) < 20
    harness.sink.reported.clear()
    running = harness.begin(harness.attempt("report_from_thread", times=500, path=str(tmp_path / "end")))
    await until(lambda: harness.sink.reported and harness.sink.reported[-1] == (499 / 500, "step 499"))
    (tmp_path / "end").touch()
    assert await running == Succeeded(None)
    assert len(harness.sink.reported) < 20


# -- what goes wrong in a task -----------------------------------------------------------------------------------------


async def test_what_a_task_raises_is_its_failure(start: Start) -> None:
    harness = await start()
    outcome = failed(await harness.run("fail", kind="value"))
    assert (outcome.type, outcome.message, outcome.retryable) == ("ValueError", "no such value", True)
    assert outcome.traceback is not None
    assert "process_tasks.py" in outcome.traceback
    assert not failed(await harness.run("fail", kind="no-retry")).retryable


async def test_the_task_says_which_errors_another_attempt_may_mend_and_when_it_is_to_be(start: Start) -> None:
    harness = await start()
    for kind, retryable in (("value", True), ("system", True), ("missing", False), ("other", False)):
        assert failed(await harness.run("choosy", kind=kind)).retryable is retryable
    chosen = failed(await harness.run("choosy", kind="chosen"))
    assert (chosen.type, chosen.message, chosen.again) == ("Retry", "the other side is busy", 60.0)
    assert chosen.retryable
    assert "OSError: 429" in (chosen.traceback or "")
    assert failed(await harness.run("again", after=0.5)).again == 0.5
    at = datetime(2030, 1, 1, tzinfo=UTC)
    later = failed(await harness.run("again", at=at.isoformat()))
    assert (later.again, later.retryable) == (at, True)
    assert later.message == "the task asks for another attempt at 2030-01-01T00:00:00+00:00"
    assert failed(await harness.run("again")).again is None
    assert failed(await harness.run("again", after=-1)).type == "ValueError"


@pytest.mark.parametrize("said", [None, True, "noon", "2030-01-01T00:00:00", [1], {"a": 1}])
async def test_a_delay_that_makes_no_sense_is_none(said: object) -> None:
    run = Run(Attempt(job_id=uuid4(), number=1, task="t", args={}), Recorder(), asyncio.Future())
    assert failed(outcome_of(run, ["fail", 1, "Retry", "text", None, True, said])).again is None
    assert failed(outcome_of(run, ["fail", 1, "Retry", "text", None, True])).again is None, "an older package rota"
    assert failed(outcome_of(run, ["fail", 1, "Retry", "text", None, True, 1e300])).again == 30 * 24 * 3600


async def test_exits_and_interrupts_in_a_task_are_failed_attempts_and_not_the_processs_end(start: Start) -> None:
    harness = await start()
    pids = harness.processes.pids
    assert failed(await harness.run("fail", kind="exit")).type == "SystemExit"
    assert failed(await harness.run("fail", kind="interrupt")).type == "KeyboardInterrupt"
    assert failed(await harness.run("fail_in_thread")).message == "3"
    assert failed(await harness.run("fail_in_child_task")).type == "SystemExit"
    assert failed(await harness.run("cancel_myself")).type == "CancelledError"
    assert harness.processes.pids == pids


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("object", "result: a builtins.object"),
        ("nan", "result: nan is no number"),
        ("surrogate", "result: contains a lone surrogate"),
        ("long number", "result: a number beyond 64 bits"),
        ("one key twice", "result.1: two keys are '1'"),
        ("deep", "nested deeper than 64"),
        ("items that raise", "result: SystemExit when it was written as JSON"),
    ],
)
async def test_a_result_that_json_can_not_hold_fails_for_good_and_says_that_the_work_is_done(
    start: Start, kind: str, said: str
) -> None:
    harness = await start()
    outcome = failed(await harness.run("unusual", kind=kind))
    assert (outcome.type, outcome.retryable) == ("ResultNotJson", False)
    assert outcome.message.startswith("the task has done its work, but its result cannot be kept: result")
    assert said in outcome.message
    assert await harness.run("echo", value=1) == Succeeded(1)


async def test_a_result_up_to_the_limit_is_kept_and_one_above_it_fails_for_good(start: Start) -> None:
    harness = await start()
    limit = 256 * 1024 - len('""')
    assert await harness.run("long_text", size=limit) == Succeeded("x" * limit)
    outcome = failed(await harness.run("long_text", size=limit + 1))
    assert (outcome.type, outcome.retryable) == ("ResultTooLarge", False)
    assert str(256 * 1024) in outcome.message


# -- loading -----------------------------------------------------------------------------------------------------------


async def test_a_file_of_a_package_is_told_how_it_is_named(start: Start, tmp_path: Path) -> None:
    package = tmp_path / "shop" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text("from . import names\n")
    harness = await start(str(package / "jobs.py"))
    assert f"give shop.inner.jobs, with {tmp_path} as the current folder" in (harness.processes.load_error or "")


async def test_a_file_without_a_task_is_told(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = tmp_path / "empty_tasks.py"
    empty.write_text("def greet(): pass\n")
    harness = await start(str(empty))
    assert harness.processes.load_error == f"{empty} holds no task: decorate a function with @rota.task"
    with caplog.at_level(logging.WARNING, "rota.executor.tasks"):
        harness = await start(str(empty), str(TASKS))
    assert harness.processes.load_error is None
    assert f"{empty} holds no task" in caplog.text


async def test_wrong_options_are_told_where_the_task_is_declared(start: Start, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong_tasks.py"
    wrong.write_text("from rota import task\n\n@task(timeout='30s')\ndef greet(): ...\n")
    harness = await start(str(wrong))
    assert "line 3" in (harness.processes.load_error or "")
    assert "timeout: must be a number, not '30s'" in (harness.processes.load_error or "")


async def test_what_a_task_takes_is_said_with_its_types(start: Start) -> None:
    harness = await start()
    about = harness.processes.tasks["process_tasks.talk"]
    assert (about["parameters"], about["types"]) == (
        {"name": True, "lines": True},
        {"name": ["string"], "lines": ["integer"]},
    )
    assert harness.processes.tasks["process_tasks.takes_anything"]["any_keyword"] is True


# -- timeouts ----------------------------------------------------------------------------------------------------------


async def test_a_timeout_ends_an_async_task_politely(start: Start) -> None:
    harness = await start()
    pids = harness.processes.pids
    outcome = failed(await harness.run("nap", 0.1, seconds=60))
    assert outcome.type == "Timeout"
    assert "0.1 s" in outcome.message
    assert "asyncio.sleep" in str(outcome.traceback)
    assert harness.processes.pids == pids


async def test_a_timeout_ends_a_busy_plain_task_without_harm_to_its_process(start: Start) -> None:
    harness = await start()
    pids = harness.processes.pids
    outcome = failed(await harness.run("spin", 0.1))
    assert outcome.type == "Timeout"
    assert "in spin" in str(outcome.traceback)
    assert harness.processes.pids == pids


async def test_a_timeout_kills_the_process_of_what_does_not_end(start: Start) -> None:
    harness = await start()
    pids = harness.processes.pids
    assert failed(await harness.run("sleep_in_c", 0.1, seconds=60)).type == "Timeout"
    assert failed(await harness.run("refuse_to_end", 0.1)).type == "Timeout"
    assert await harness.run("echo", value=1) == Succeeded(1)
    assert not set(harness.processes.pids) & set(pids)


async def test_neighbours_of_a_killed_process_finish_in_time_or_are_lost(start: Start) -> None:
    harness = await start()
    quick, slow = harness.begin(harness.attempt("nap", seconds=0.6)), harness.begin(harness.attempt("nap", seconds=60))
    assert failed(await harness.run("sleep_in_c", 0.1, seconds=60)).type == "Timeout"
    assert await quick == Succeeded(0.6)
    assert isinstance(await slow, Lost)


async def test_a_blocked_event_loop_is_blamed_on_the_task_that_blocks_it(start: Start) -> None:
    harness = await start()
    culprit, others = harness.attempt("spin_on_loop", 0.5), [harness.attempt("nap", 0.5, seconds=0.1) for _ in range(3)]
    running, *neighbours = [harness.begin(attempt) for attempt in (culprit, *others)]
    outcome = failed(await running)
    assert outcome.type == "Timeout"
    assert "in spin_on_loop" in str(outcome.traceback)
    assert harness.sink.of(culprit) == "blocking the loop\n"
    assert [type(await neighbour) for neighbour in neighbours] == [Lost, Lost, Lost]


async def test_a_task_of_a_task_that_blocks_the_loop_is_ended_too(start: Start) -> None:
    harness = await start()
    assert failed(await harness.run("spin_in_child_task", 0.3)).type == "Timeout"


async def test_the_time_of_an_attempt_that_had_to_wait_begins_when_it_begins(start: Start) -> None:
    harness = await start()
    blocking, waiting = harness.attempt("spin_on_loop", seconds=4.0), harness.attempt("nap", 3.0, seconds=0.5)
    running = [harness.begin(attempt) for attempt in (blocking, waiting)]
    assert await asyncio.gather(*running) == [Succeeded(None), Succeeded(0.5)]


async def test_an_attempt_does_not_wait_for_ever_for_a_blocked_process(start: Start) -> None:
    harness = await start(patience=Patience(cancel=5, timeout=5, neighbours=0.1, begin=1.5))
    _, blocking = await harness.begun("spin_on_loop", "blocking", seconds=5)
    assert isinstance(await harness.run("echo"), Lost)
    for_a_process = await harness.run("echo")
    assert isinstance(for_a_process, Lost)
    assert "no task process had room for it" in for_a_process.reason
    assert not blocking.done()
    assert await blocking == Succeeded(None)
    assert await harness.run("echo", value=2) == Succeeded(2)


async def test_a_process_that_does_not_read_neither_blocks_the_executor_nor_fills_its_memory(start: Start) -> None:
    harness = await start()
    _, blocking = await harness.begun("spin_on_loop", "blocking", seconds=2)
    big = "x" * 200_000
    (process,) = harness.processes._processes
    running = [harness.begin(harness.attempt("plain_echo", value=big)) for _ in range(60)]
    await until(lambda: not process.available)
    assert not blocking.done()
    assert process._channel is not None
    assert process._channel._writer is not None
    assert process._channel._writer.get_write_buffer_size() < 20_000_000
    assert await blocking == Succeeded(None)
    assert await asyncio.gather(*running) == [Succeeded(big)] * 60


# -- cancellation ------------------------------------------------------------------------------------------------------


async def test_cancelling_ends_tasks_politely(start: Start) -> None:
    harness = await start()
    pids = harness.processes.pids
    for task, args in (("nap", {"seconds": 60}), ("spin", {})):
        attempt = harness.attempt(task, **args)
        running = harness.begin(attempt)
        await asyncio.sleep(0)
        harness.processes.cancel(attempt)
        assert await running == Cancelled(forced=False)
    attempt, running = await harness.begun("spin", "spinning")
    harness.processes.cancel(attempt)
    assert await running == Cancelled(forced=False)
    assert harness.processes.pids == pids


async def test_a_task_that_ends_well_though_cancelled_has_succeeded(start: Start) -> None:
    harness = await start()
    attempt = harness.attempt("look_at_flag")
    running = harness.begin(attempt)
    await until(lambda: any(run.begun for process in harness.processes._processes for run in process.runs.values()))
    harness.processes.cancel(attempt)
    assert await running in (Succeeded("ended by itself"), Cancelled(forced=False))


async def test_cancelling_kills_the_process_of_what_does_not_end(start: Start) -> None:
    harness = await start()
    for task in ("refuse_to_end", "spin_on_loop"):
        attempt = harness.attempt(task)
        running = harness.begin(attempt)
        await until(
            lambda: any(run.begun or run.heard for p in harness.processes._processes for run in p.runs.values())
        )
        harness.processes.cancel(attempt)
        assert await running == Cancelled(forced=True)
    assert await harness.run("echo", value=1) == Succeeded(1)


async def test_an_attempt_that_nobody_waits_for_is_ended(start: Start) -> None:
    harness = await start()
    running = harness.begin(harness.attempt("nap", seconds=60))
    (process,) = harness.processes._processes
    await until(lambda: process.runs)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: not process.runs)


# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_a_crash_fails_the_attempt_and_another_process_takes_over(start: Start) -> None:
    harness = await start()
    attempt = harness.attempt("exit_at_once", status=7)
    outcome = failed(await harness.begin(attempt))
    assert outcome.type == "ProcessCrashed"
    assert "exit status 7" in outcome.message
    assert outcome.retryable
    assert harness.sink.of(attempt) == "about to exit\n"
    assert await harness.run("echo", value=1) == Succeeded(1)


async def test_a_segmentation_fault_is_named_with_its_place(start: Start) -> None:
    harness = await start()
    attempt = harness.attempt("segfault")
    outcome = failed(await harness.begin(attempt))
    assert "SIGSEGV" in outcome.message
    assert "in segfault" in str(outcome.traceback)
    assert harness.sink.of(attempt) == "about to crash\n"


async def test_all_attempts_that_ran_in_a_crashed_process_may_be_to_blame(start: Start) -> None:
    harness = await start()
    _attempt, running = await harness.begun("spin", "spinning")
    assert "2 attempts" in failed(await harness.run("exit_at_once", status=1)).message
    assert failed(await running).type == "ProcessCrashed"


async def test_a_killed_process_fails_its_attempts(start: Start) -> None:
    harness = await start()
    _, running = await harness.begun("spin", "spinning")
    os.kill(harness.processes.pids[0], signal.SIGKILL)
    assert "SIGKILL" in failed(await running).message


async def test_children_of_a_task_end_with_its_process(start: Start, tmp_path: Path) -> None:
    harness = await start()
    running = harness.begin(harness.attempt("start_child", path=str(tmp_path / "pids")))
    worker, child = await until(lambda: _pids(tmp_path / "pids"))
    os.kill(worker, signal.SIGKILL)
    assert failed(await running).type == "ProcessCrashed"
    await until(lambda: not _alive(child))


# -- start and end -----------------------------------------------------------------------------------------------------


async def test_a_module_that_can_not_be_imported_is_reported_and_tried_again(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_module_anywhere\n")
    harness = await start(str(path))
    assert "no_such_module_anywhere" in harness.processes.load_error
    assert str(path) in harness.processes.load_error
    outcome = failed(await harness.run("echo"))
    assert outcome.type == "TasksNotLoaded"
    assert "no_such_module_anywhere" in outcome.message
    path.write_text("from rota import task\n@task\ndef mended():\n    return 1\n")
    await harness.processes.new_tasks()
    attempt = Attempt(job_id=uuid4(), number=1, task="broken.mended", args={})
    assert await harness.begin(attempt) == Succeeded(1)
    assert harness.processes.load_error is None


async def test_what_can_be_loaded_is_served_though_another_file_is_broken(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("raise SystemExit('not today')\n")
    harness = await start(str(path), str(TASKS))
    assert "not today" in harness.processes.load_error
    assert await harness.run("echo", value=1) == Succeeded(1)


@pytest.mark.parametrize("name", ["json.py", "domain.py", "asyncio.py"])
async def test_a_file_with_tasks_may_have_any_name(start: Start, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("from rota import task\n@task\nasync def one():\n    return 1\n")
    harness = await start(str(path))
    attempt = Attempt(job_id=uuid4(), number=1, task=f"{path.stem}.one", args={})
    assert await harness.begin(attempt) == Succeeded(1)


async def test_a_module_is_found_where_the_executor_was_started(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "mail.py").write_text("from rota import task\n@task\ndef send():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    harness = await start("my_package.mail")
    assert list(harness.processes.tasks) == ["my_package.mail.send"]


@pytest.mark.parametrize(
    ("script", "said"),
    [("#!/bin/sh\necho no package rota here >&2; exit 5\n", "no package rota here"), (None, "cannot be started")],
)
async def test_an_interpreter_that_does_not_work_is_reported(
    start: Start, tmp_path: Path, script: str | None, said: str
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(script)
        python.chmod(0o755)
    harness = await start(python=str(python))
    assert said in harness.processes.load_error
    assert said in failed(await harness.run("echo")).message


async def test_closing_waits_for_what_ends_in_time_and_loses_the_rest(start: Start) -> None:
    harness = await start(count=2)
    quick = harness.begin(harness.attempt("nap", seconds=0.3))
    endless = [harness.begin(harness.attempt(task)) for task in ("spin", "spin_on_loop", "refuse_to_end")]
    await until(lambda: sum(len(process.runs) for process in harness.processes._processes) == 4)
    pids = harness.processes.pids
    await harness.processes.close(seconds=0.5)
    assert isinstance(await quick, Succeeded | Lost)
    assert [type(await running) for running in endless] == [Lost, Lost, Lost]
    assert not any(_alive(pid) for pid in pids)
    assert isinstance(await harness.run("echo"), Lost)


async def test_the_process_and_its_children_end_when_the_executor_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", EXECUTOR, str(TASKS), str(tmp_path / "pids")],
        env={**os.environ, "PYTHONPATH": str(TASKS.parents[2])},
    )
    try:
        worker, child = until_sync(lambda: _pids(tmp_path / "pids"), what="the task's start")
    finally:
        parent.kill()
        parent.wait()
    until_sync(lambda: not _alive(worker) and not _alive(child), what="the end of the task process and its child")


EXECUTOR = """
import asyncio, sys, uuid
from rota_server.apps.executor.attempts import Attempt
from rota_server.apps.executor.processes.pool import TaskProcesses

async def main(tasks, path):
    processes = TaskProcesses([tasks], count=1, slots=4)
    await processes.start()
    await asyncio.gather(*(
        processes.run(Attempt(job_id=uuid.uuid4(), number=1, task="process_tasks." + task, args=args), None)
        for task, args in (("start_child", {"path": path}), ("nap", {"seconds": 3600}))
    ))

asyncio.run(main(*sys.argv[1:]))
"""


def _pids(path: Path) -> list[int] | None:
    try:
        pids = [int(word) for word in path.read_text().split()]
    except FileNotFoundError:
        return None
    return pids if len(pids) == 2 else None


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_whoever_keeps_the_processes_never_ends_unseen(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = await start()

    async def broken(_processes: object, _seconds: float) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(TaskProcesses, "_pause", broken)
    os.kill(harness.processes.pids[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="a defect"):
            await harness.processes.watch()


async def test_each_attempt_says_once_when_it_begins_also_behind_one_that_blocks(start: Start) -> None:
    harness = await start()
    waits: dict[str, list[float]] = {}

    def attempt(name: str, task: str, **args: Any) -> asyncio.Task[Outcome]:
        told = waits.setdefault(name, [])
        found = replace(harness.attempt(task, **args), begins=told.append, claimed_at=time.monotonic() - 5)
        return harness.begin(found)

    outcomes = await asyncio.gather(attempt("plain", "plain_echo", value=1), attempt("async", "echo", value=2))
    assert outcomes == [Succeeded(1), Succeeded(2)]
    assert [len(told) for told in waits.values()] == [1, 1]
    assert all(5 <= wait < 25 for told in waits.values() for wait in told)
