"""Timers: complete up to the watermark, bounded whatever waits behind it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rota_server.domain.ids import Position
from rota_server.domain.timers import HORIZON, Timers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def loaded(timers: Timers, due: list[tuple[str, datetime]], *, position: int = 0) -> Timers:
    timers.begin_load(NOW + HORIZON, Position(position))
    timers.end_load(due, len(due))
    return timers


def test_what_is_due_comes_in_order_and_once():
    timers = loaded(Timers(), [("a", at(1)), ("b", at(2)), ("c", at(3))])
    timers.add("d", at(1.5), Position(1))
    assert timers.take_due(at(2), 10) == ["a", "d", "b"]
    assert timers.take_due(at(2), 10) == []
    assert timers.earliest() == at(3)


def test_no_more_are_taken_than_asked_for():
    timers = loaded(Timers(), [(str(n), at(n)) for n in range(5)])
    assert timers.take_due(at(9), 2) == ["0", "1"]
    assert timers.take_due(at(9), 9) == ["2", "3", "4"]


def test_a_new_time_replaces_the_old_one():
    timers = loaded(Timers(), [("a", at(1))])
    timers.add("a", at(5), Position(1))
    assert timers.take_due(at(2), 10) == []
    assert timers.take_due(at(5), 10) == ["a"]


def test_an_event_that_came_while_timers_were_read_is_not_lost():
    timers = Timers()
    timers.begin_load(NOW + HORIZON, Position(7))
    timers.add("late", at(3), Position(8))
    timers.end_load([("early", at(1))], 1)
    assert timers.take_due(at(3), 10) == ["early", "late"]


def test_an_event_newer_than_what_was_read_is_not_made_late_by_it():
    timers = Timers()
    timers.begin_load(NOW + HORIZON, Position(7))
    timers.add("a", at(1), Position(8))
    timers.end_load([("a", at(9))], 1)
    assert timers.take_due(at(1), 10) == ["a"]


def test_an_old_event_adds_nothing_that_the_load_has_not_brought():
    timers = loaded(Timers(), [("b", at(1))], position=7)
    timers.add("done long ago", at(-100), Position(7))
    assert timers.take_due(at(2), 10) == ["b"]


def test_a_load_that_failed_is_wanted_again():
    timers = loaded(Timers(), [("a", at(1))])
    timers.begin_load(NOW + 2 * HORIZON, Position(5))
    timers.fail_load()
    assert timers.wants_load(NOW)
    timers.add("b", at(1), Position(9))
    loaded(timers, [("a", at(1)), ("b", at(1))])
    assert sorted(timers.take_due(at(1), 10)) == ["a", "b"]


def test_a_complete_load_is_repeated_at_half_the_horizon():
    timers = loaded(Timers(), [])
    assert not timers.wants_load(NOW + HORIZON / 2)
    assert timers.wants_load(NOW + HORIZON / 2 + timedelta(seconds=1))


def test_an_incomplete_load_is_repeated_when_few_are_left_and_not_before():
    timers = loaded(Timers(limit=8), [(str(n), at(n)) for n in range(8)])
    assert timers.known_until == at(7)
    assert not timers.wants_load(at(4))
    timers.take_due(at(5), 10)
    assert timers.wants_load(at(5))


def test_a_horde_due_at_one_instant_is_loaded_part_by_part():
    waiting = [(str(n), at(1)) for n in range(100)]
    timers, taken, loads = Timers(limit=8), [], 0
    while waiting or len(timers):
        if timers.wants_load(at(2)):
            loads += 1
            loaded(timers, waiting[:8])
        batch = timers.take_due(at(2), 2)
        taken += batch
        waiting = [timer for timer in waiting if timer[0] not in batch]
    assert sorted(taken, key=int) == [str(n) for n in range(100)]
    assert loads < 30


def test_memory_is_bounded_and_the_watermark_says_what_was_forgotten():
    timers = loaded(Timers(limit=10), [])
    for n in range(1000):
        timers.add(str(n), at(59 - n % 50), Position(n + 1))
        assert len(timers) <= 20
        assert len(timers._heap) <= 2 * len(timers) + 10
    assert timers.known_until is not None
    assert timers.known_until <= at(11)
    timers.take_due(timers.known_until, 1000)
    assert timers.wants_load(timers.known_until)


def test_moving_one_job_again_and_again_takes_no_memory():
    timers = loaded(Timers(limit=10), [])
    for n in range(1000):
        timers.add("a", at(n % 50), Position(n + 1))
    assert len(timers._heap) <= 13


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 120)), max_size=80), st.integers(1, 5))
def test_nothing_due_below_the_watermark_is_ever_missing(changes: list[tuple[int, int]], limit: int):
    index: dict[str, datetime] = {}
    timers = loaded(Timers(limit=limit), [])
    for number, (job, seconds) in enumerate(changes, start=1):
        index[str(job)] = at(seconds)
        timers.add(str(job), at(seconds), Position(number))
        if number % 7 == 0:
            rows = sorted(index.items(), key=lambda row: row[1])
            near = [row for row in rows if row[1] <= NOW + HORIZON][:limit]
            loaded(timers, near, position=number)
        assert timers.known_until is not None
        for name, due in index.items():
            if due < timers.known_until:
                assert timers._due[name] <= due
