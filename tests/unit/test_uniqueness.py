"""Who gets a unique key: the decision alone, by hand for every rule and by hypothesis for what must hold always."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.adapters.codec import encode_event
from rota_server.domain.errors import NotUnique
from rota_server.domain.events import event_from_json
from rota_server.domain.ids import Position, Version
from rota_server.domain.jobs import uniqueness
from rota_server.domain.jobs.decisions import decide, write_for
from rota_server.domain.jobs.events import UniqueClaimed
from rota_server.domain.jobs.job import STATES, Job
from rota_server.domain.jobs.spec import JobSpec, OnConflict, Unique, UniqueScope
from rota_server.domain.log import Meta

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SCOPES: tuple[UniqueScope, ...] = ("queued", "running", "unfinished", "seconds")
POLICIES: tuple[OnConflict, ...] = ("reject", "return", "replace", "keep_latest")
WAITING = ("scheduled", "waiting", "queued", "retrying")


def holder(state: str, *, age: float = 0.0) -> Job:
    return Job(
        id=uuid4(),
        spec=JobSpec(task="t"),
        state=state,  # type: ignore[arg-type]
        version=Version(2),
        position=Position(2),
        first_position=Position(1),
        submitted_at=NOW - timedelta(seconds=age),
        changed_at=NOW,
        submitted_meta=Meta(actor="test"),
        attempt=1 if state == "running" else 0,
        executor="e" if state == "running" else None,
    )


def rule(scope: UniqueScope, policy: OnConflict) -> Unique:
    return Unique(key="k", scope=scope, seconds=30 if scope == "seconds" else None, on_conflict=policy)


def blocks(scope: UniqueScope, state: str, age: float) -> bool:
    match scope:
        case "queued":
            return state in WAITING
        case "running":
            return state == "running"
        case "unfinished":
            return state in (*WAITING, "running")
        case _:
            return age < 30


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("age", [0.0, 29.999, 30.0])
def test_every_rule_for_every_state_of_a_single_holder(
    scope: UniqueScope, policy: OnConflict, state: str, age: float
) -> None:
    job = holder(state, age=age)
    verdict = uniqueness.weigh(rule(scope, policy), [job], NOW)
    if not blocks(scope, state, age):
        released = (job.id,) if job.ended else ()
        assert verdict == uniqueness.Free(released=released)
        return
    if policy in ("reject", "return"):
        assert verdict == uniqueness.Taken(by=job)
        return
    assert isinstance(verdict, uniqueness.Free)
    if job.ended:
        assert verdict == uniqueness.Free(released=(job.id,))
    elif state == "running":
        cancels = (job,) if policy == "replace" else ()
        assert verdict == uniqueness.Free(cancels=cancels, awaits=(job,))
    else:
        assert verdict == uniqueness.Free(cancels=(job,), released=(job.id,))


def test_nobody_holds_the_key() -> None:
    for scope in SCOPES:
        for policy in POLICIES:
            assert uniqueness.weigh(rule(scope, policy), [], NOW) == uniqueness.Free()


def test_keep_latest_leaves_one_running_and_one_pending() -> None:
    runs, waits = holder("running"), holder("waiting")
    verdict = uniqueness.weigh(rule("unfinished", "keep_latest"), [runs, waits], NOW)
    assert verdict == uniqueness.Free(cancels=(waits,), awaits=(runs,), released=(waits.id,))


def test_the_one_that_claimed_last_is_named() -> None:
    first, last = holder("running"), holder("queued")
    assert uniqueness.weigh(rule("unfinished", "return"), [first, last], NOW) == uniqueness.Taken(by=last)


def test_a_key_does_not_collect_holders_without_bound() -> None:
    crowd = [holder("queued") for _ in range(uniqueness.HOLDERS_LIMIT)]
    assert uniqueness.weigh(rule("running", "reject"), crowd[1:], NOW) == uniqueness.Free()
    with pytest.raises(NotUnique, match="limit"):
        uniqueness.weigh(rule("running", "reject"), crowd, NOW)


def test_an_ended_job_may_run_again_only_when_nobody_else_is_in_its_way() -> None:
    ended, other = holder("failed"), holder("queued")
    for policy in POLICIES:
        uniqueness.check_reopening(rule("unfinished", policy), ended.id, [ended], NOW)
        uniqueness.check_reopening(rule("running", policy), ended.id, [ended, other], NOW)
        with pytest.raises(NotUnique) as refused:
            uniqueness.check_reopening(rule("unfinished", policy), ended.id, [ended, other], NOW)
        assert refused.value.job == other.id


def test_who_waits_for_the_previous_ones_says_so_in_its_spec() -> None:
    one, two = holder("running"), holder("running")
    spec = uniqueness.spec_awaiting(JobSpec(task="t"), [one, two])
    assert spec.after is not None
    assert [(p.id, p.name, p.outcome) for p in spec.after.predecessors] == [
        (one.id, "previous", "ended"),
        (two.id, "previous-2", "ended"),
    ]
    assert spec.after.mode == "all"
    assert uniqueness.spec_awaiting(spec, [one]) == spec
    assert uniqueness.spec_awaiting(JobSpec(task="t"), []) == JobSpec(task="t")


holders = st.lists(
    st.builds(holder, st.sampled_from(STATES), age=st.floats(0, 100)),
    max_size=6,
)


@given(holders, st.sampled_from(SCOPES), st.sampled_from(POLICIES))
def test_what_a_verdict_names_is_there_and_what_is_let_in_stands_in_nobodys_way(
    jobs: list[Job], scope: UniqueScope, policy: OnConflict
) -> None:
    unique = rule(scope, policy)
    verdict = uniqueness.weigh(unique, jobs, NOW)
    blocking = [job for job in jobs if uniqueness.in_scope(unique, job, NOW)]
    if isinstance(verdict, uniqueness.Taken):
        assert policy in ("reject", "return")
        assert verdict.by == blocking[-1]
        return
    assert not any(job.ended for job in (*verdict.cancels, *verdict.awaits))
    assert all(job.state == "running" for job in verdict.awaits)
    over = {job.id for job in jobs if job.ended} | {job.id for job in verdict.cancels if job.state != "running"}
    assert set(verdict.released) == over
    for job in blocking:
        # Whoever was in the way has ended, ends in the same unit, or is waited for.
        assert job.ended or job.id in over or job in verdict.awaits
    if not blocking:
        assert verdict.cancels == verdict.awaits == ()
    for job in verdict.cancels:
        events = decide(job, uniqueness.cancelling(UUID(int=1)), NOW)
        _, after = write_for(job, job.id, events, Meta(actor="test"), NOW)
        assert after.ended or (job.state == "running" and after.cancel_requested)


claims = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3)), max_size=20)


@given(claims)
def test_the_state_of_a_key_is_the_fold_of_its_stream(steps: list[tuple[int, list[int]]]) -> None:
    held: tuple[UUID, ...] = ()
    events = []
    for number, released in steps:
        event = UniqueClaimed(key="k", job=str(UUID(int=number)), released=tuple(str(UUID(int=n)) for n in released))
        events.append(event)
        held = uniqueness.evolve(held, event)
        assert held[-1] == UUID(int=number)
        assert len(set(held)) == len(held)
        assert uniqueness.holders_of(uniqueness.head_of(rule("queued", "return"), held, NOW).doc) == held
    again: tuple[UUID, ...] = ()
    for event in events:
        stored = event_from_json("UniqueClaimed", orjson.loads(encode_event(event)))
        assert stored == event
        again = uniqueness.evolve(again, stored)  # type: ignore[arg-type]
    assert again == held


def test_a_key_is_remembered_for_as_long_as_it_throttles() -> None:
    assert uniqueness.head_of(rule("seconds", "reject"), [], NOW).due_at == NOW + timedelta(seconds=30)
    assert uniqueness.head_of(rule("queued", "reject"), [], NOW).due_at == NOW
