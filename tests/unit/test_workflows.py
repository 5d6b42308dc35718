"""Graphs, the state of workflows and batches, and which of them the leader looks at."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.errors import NotPossible, Unreadable
from rota_server.domain.workflows import workflow as w
from rota_server.domain.workflows.graphs import find_circle, in_order
from rota_server.domain.workflows.watch import CANCEL_REPEAT, WorkflowWatch
from rota_server.domain.workflows.workflow import (
    Workflow,
    evolve_workflow,
    fold_workflow,
    head_of_workflow,
    reconcile,
    workflow_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBMITTED = w.WorkflowSubmitted(name="w", total=2, nodes={"a": [], "b": ["a"]})


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_graph_is_either_in_order_or_has_a_circle_that_is_one(seed: int):
    chosen = random.Random(seed)
    names = [str(number) for number in range(chosen.randint(1, 12))]
    graph = {name: chosen.sample(names, min(len(names), chosen.choice([0, 1, 1, 2]))) for name in names}
    circle = find_circle(graph)
    ordered = in_order(graph)
    if circle is None:
        assert sorted(ordered) == sorted(names)
        assert all(ordered.index(other) < ordered.index(name) for name in names for other in graph[name])
    else:
        assert len(set(circle)) == len(circle)
        assert all(following in graph[name] for name, following in zip(circle, [*circle[1:], circle[0]], strict=True))


def test_a_deep_graph_needs_no_deep_stack():
    graph = {str(number): [str(number - 1)] if number else [] for number in range(20_000)}
    assert in_order(graph)[-1] == "19999"
    assert find_circle(graph | {"0": ["19999"]}) is not None


@pytest.mark.parametrize(
    ("counts", "by_hand", "state"),
    [
        ({"succeeded": 3}, False, "succeeded"),
        ({"succeeded": 2, "cancelled": 1}, False, "succeeded"),
        ({"succeeded": 2, "cancelled": 1}, True, "cancelled"),
        ({"succeeded": 2, "failed": 1}, False, "failed"),
        ({"cancelled": 2, "expired": 1}, True, "failed"),
    ],
)
def test_how_a_group_ends_follows_from_its_jobs(counts: dict[str, int], *, by_hand: bool, state: str):
    event = reconcile(evolve_workflow(None, SUBMITTED), counts, cancelled_by_hand=by_hand)
    assert event == w.WorkflowEnded(state=state, counts=counts)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["scheduled", "waiting", "queued", "running", "retrying"])
def test_a_group_goes_on_while_one_of_its_jobs_does_and_again_when_one_does_again(state: str):
    workflow = evolve_workflow(None, SUBMITTED)
    counts = {"succeeded": 1, state: 1}
    assert reconcile(workflow, counts, cancelled_by_hand=False) is None
    ended = evolve_workflow(workflow, w.WorkflowEnded(state="failed", counts={}))
    assert isinstance(reconcile(ended, counts, cancelled_by_hand=False), w.WorkflowReopened)


def test_the_doc_of_a_row_is_the_whole_state():
    history: list[Any] = [
        w.BatchSubmitted(name=None, total=2, then="x", idempotency_key="k", request_digest="d"),
        w.BatchCancelRequested(reason="enough"),
        w.BatchEnded(state="cancelled", counts={"cancelled": 2}),
        w.BatchReopened(jobs=2, reason="again"),
    ]
    for length in range(1, len(history) + 1):
        workflow = fold_workflow(history[:length])
        assert workflow is not None
        head = head_of_workflow(workflow, UUID(int=1))
        assert workflow_of(head.doc) == workflow
        assert head.active == (length != 3)


def test_events_that_have_no_place_are_unreadable():
    with pytest.raises(Unreadable):
        evolve_workflow(None, w.WorkflowEnded(state="failed", counts={}))
    with pytest.raises(Unreadable):
        evolve_workflow(evolve_workflow(None, SUBMITTED), SUBMITTED)


def test_what_can_not_be_asked_of_a_group_is_refused():
    running = evolve_workflow(None, SUBMITTED)
    cancelling = evolve_workflow(running, w.WorkflowCancelRequested())
    ended = evolve_workflow(running, w.WorkflowEnded(state="succeeded", counts={}))
    assert w.cancel(cancelling, None) is None
    for call in (
        lambda: w.cancel(ended, None),
        lambda: w.reopen(cancelling, 1, None),
        lambda: w.reopen(ended, 0, None),
    ):
        with pytest.raises(NotPossible):
            call()


def test_a_batch_is_counted_when_its_first_and_its_last_job_have_ended():
    watch = WorkflowWatch()
    looked_at = 0
    left = 1000
    for _ in range(1000):
        watch.job_ended("b")
        left -= 1
        for workflow in watch.take(NOW, 10):
            looked_at += 1
            watch.counted(workflow, left)
    assert looked_at == 2


def test_a_count_that_was_ahead_of_the_feed_or_a_job_that_runs_again_delays_nothing():
    chosen = random.Random(7)
    watch = WorkflowWatch()
    ended = seen = recorded_at = 0
    while seen < 200:  # the feed lags behind what is counted
        ended = min(200, ended + chosen.randint(0, 3))
        if seen < ended:
            seen += 1
            watch.job_ended("b")
        for workflow in watch.take(NOW, 10):
            if ended == 200:
                recorded_at = seen
                watch.over(workflow)
            else:
                watch.counted(workflow, 200 - ended)
    assert recorded_at


def test_what_is_no_group_is_asked_about_once():
    watch = WorkflowWatch()
    watch.job_ended("schedule")
    assert watch.take(NOW, 10) == ["schedule"]
    watch.foreign(["schedule"])
    watch.job_ended("schedule")
    watch.touch("schedule")
    assert watch.idle


def test_a_group_that_is_being_cancelled_is_gone_through_again_until_it_is_over():
    watch = WorkflowWatch()
    watch.cancelling("w", NOW)
    assert watch.take(NOW, 10) == []
    assert watch.take(NOW + CANCEL_REPEAT, 10) == ["w"]
    watch.cancelling("w", NOW)
    watch.over("w")
    assert watch.take(NOW + CANCEL_REPEAT, 10) == []


def test_a_group_is_active_until_it_has_ended():
    states = ("running", "cancelling", "succeeded", "failed", "cancelled")
    active = {state: Workflow(kind="batch", name=None, total=1, state=state).active for state in states}
    assert active == {"running": True, "cancelling": True, "succeeded": False, "failed": False, "cancelled": False}
