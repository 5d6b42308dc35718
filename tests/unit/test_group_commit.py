"""Group commit: what waits together, fails together, and is never written for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from rota_server.adapters.group_commit import GroupCommit
from rota_server.domain.errors import Unavailable, Unexpected
from rota_server.domain.ids import Position, Term, Version
from rota_server.domain.jobs.events import LeaderElected
from rota_server.domain.log import Appended, AppendResult, Meta, StreamWrite, Unit
from tests.waiting import until


class ScriptedLog:
    """Answers appends as told: `failures` first, then positions; holds calls while `gate` is closed."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls: list[list[UUID]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.position = 0

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        self.calls.append([unit.id for unit in units])
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        answers: list[AppendResult] = []
        for _ in units:
            self.position += 1
            answers.append(Appended(Position(self.position), Position(self.position), datetime.now(UTC)))
        return answers


def unit(stream: UUID | None = None) -> Unit:
    event = LeaderElected(term=1, node="n")
    write = StreamWrite(stream_id=stream or uuid4(), expected_version=Version(0), events=[event], head=None)
    return Unit(id=uuid4(), writes=[write], meta=Meta(actor="test"))


async def test_units_of_one_stream_never_share_a_call_and_keep_their_order():
    log = ScriptedLog()
    stream = uuid4()
    units = [unit(stream), unit(), unit(stream), unit(stream)]
    await GroupCommit(log).append_all(units)
    place = {unit_id: number for number, call in enumerate(log.calls) for unit_id in call}
    assert [place[u.id] for u in units] == [0, 0, 1, 2]


async def test_an_unknown_outcome_is_repeated_with_the_same_units():
    log = ScriptedLog(Unavailable("gone", server="postgres"))
    only = unit()
    assert isinstance(await GroupCommit(log).append(only), Appended)
    assert log.calls == [[only.id], [only.id]]


async def test_a_log_that_hangs_is_given_up_for_everybody_who_waits():
    log = ScriptedLog()
    log.gate.clear()
    commit = GroupCommit(log, max_events=1, give_up_seconds=0.2)
    began = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(commit.append(unit()) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert asyncio.get_running_loop().time() - began < 2
    assert len(log.calls) == 1


async def test_after_giving_up_the_next_unit_is_written():
    log = ScriptedLog()
    log.gate.clear()
    commit = GroupCommit(log, give_up_seconds=0.1)
    with pytest.raises(Unavailable):
        await commit.append(unit())
    log.gate.set()
    assert isinstance(await commit.append(unit()), Appended)


async def test_a_unit_that_nobody_waits_for_any_more_is_not_written():
    log = ScriptedLog()
    log.gate.clear()
    commit = GroupCommit(log)
    first, abandoned = unit(), unit()
    keeping = asyncio.create_task(commit.append(first))
    await until(lambda: log.calls)
    leaving = asyncio.create_task(commit.append(abandoned))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    log.gate.set()
    assert isinstance(await keeping, Appended)
    await commit.flush()
    assert abandoned.id not in [unit_id for call in log.calls for unit_id in call]


class PickyLog(ScriptedLog):
    """Refuses calls with one unit, as a driver does that cannot send it."""

    def __init__(self, poison: UUID) -> None:
        super().__init__()
        self.poison = poison

    async def append(self, units: Sequence[Unit], *, fence: Term | None = None) -> list[AppendResult]:
        if self.poison in [unit.id for unit in units]:
            self.calls.append([unit.id for unit in units])
            raise ValueError("a driver's surprise")
        return await super().append(units, fence=fence)


async def test_an_unexpected_error_is_told_to_whom_it_concerns_and_to_nobody_else():
    units = [unit() for _ in range(5)]
    log = PickyLog(units[2].id)
    commit = GroupCommit(log)
    answers = await asyncio.gather(*(commit.append(one) for one in units), return_exceptions=True)
    assert isinstance(answers[2], Unexpected)
    assert isinstance(answers[2], Unavailable), "so that it is kept, and tried again"
    assert all(isinstance(answer, Appended) for answer in (*answers[:2], *answers[3:]))
    assert len(log.calls[0]) == 5


async def test_of_several_units_each_gets_its_own_answer():
    units = [unit() for _ in range(3)]
    answers = await GroupCommit(PickyLog(units[1].id)).append_each(units)
    assert [type(answer) for answer in answers] == [Appended, Unexpected, Appended]


async def test_a_defect_of_the_commit_itself_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch):
    def broken(_commit: GroupCommit) -> list[object]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(GroupCommit, "_next_batch", broken)
    commit = GroupCommit(ScriptedLog())
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(commit.append(unit()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(answer, Unexpected) for answer in answers)
