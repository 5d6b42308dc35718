"""A leader that has more to do than it can is late; its ticks are not. Simulated time."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.schedules.presence import Presence
from rota_server.domain.schedules.ticking import ON_TIME
from tests.simulation.schedule_world import START, Leader, World

SECOND = timedelta(seconds=1)
NIGHT = START + timedelta(days=1)


def world_of(count: int, **definition: object) -> World:
    world = World(1)
    for number in range(count):
        policy = ("none", "latest", "all")[number % 3]
        catch_up = {"policy": policy, "window": 86_400, "maximum": 100}
        world.create(f"s{number}", cron="0 0 * * *", catch_up=catch_up, **definition)
    return world


def test_thousands_of_schedules_at_midnight_all_tick_however_long_that_takes() -> None:
    world = world_of(1_200)
    leader = Leader(world, presence=Presence(START))
    world.now = NIGHT
    for number, stream_id in enumerate(list(world.rows)):
        if number == 600:  # the log is away for a moment in the middle of it
            assert leader.presence is not None
            leader.presence.away(world.now)
            world.now += 5 * SECOND
            leader.presence.back(world.now)
        world.now += timedelta(seconds=0.5)
        leader.look(stream_id)
        leader.thaw()
    assert world.now - NIGHT > 10 * timedelta(minutes=1)
    for stream_id in world.rows:
        assert world.check(stream_id) == {"due": 1}


def test_a_leader_that_was_not_there_finds_what_nobody_could_decide_late() -> None:
    world = world_of(30)
    world.now = NIGHT + timedelta(minutes=5)
    leader = Leader(world, presence=Presence(world.now))
    for stream_id in list(world.rows):
        leader.look(stream_id)
        leader.thaw()
    outcomes = [world.check(stream_id) for stream_id in world.rows]
    assert outcomes == [{"past_catch_up": 1}, {"catch_up": 1}, {"catch_up": 1}] * 10


gaps = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12)


@settings(max_examples=200)
@given(story=gaps, before=st.integers(0, 600), away=st.booleans())
def test_lateness_is_the_time_in_which_nobody_could_have_decided(
    *, story: list[tuple[int, int]], before: int, away: bool
) -> None:
    now = START
    presence = Presence(START)
    absent = [(START - timedelta(days=1), START)]
    for works, misses in story:
        now += works * SECOND
        presence.away(now)
        presence.away(now + SECOND)
        absent.append((now, now + misses * SECOND))
        now += misses * SECOND
        presence.back(now)
        presence.back(now + SECOND)
    if away:
        presence.away(now)
        absent.append((now, now + 7 * SECOND))
        now += 7 * SECOND
    nominal = now - before * SECOND
    lateness = sum((end - max(begin, nominal) for begin, end in absent if end > nominal), timedelta(0))
    assert (nominal <= presence.late_until(now, ON_TIME)) is (lateness >= ON_TIME)
