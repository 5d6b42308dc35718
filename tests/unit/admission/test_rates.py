"""Meters of starts: no run of starts that they allow ever exceeds the limit, as counted afterwards."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from rota_server.domain.admission.queues import RateLimit
from rota_server.domain.admission.rates import SlidingWindow, limiter_after_change, limiter_for, limiter_from

STEPS = st.lists(
    st.tuples(st.sampled_from(["dispatch", "start", "drop", "wait"]), st.floats(0.0, 3.0)), min_size=1, max_size=200
)


def play(limit: RateLimit, steps: list[tuple[str, float]]) -> list[float]:
    """Dispatch whenever there is room, start in any later order; the instants of the starts."""
    limiter, now, unstarted, starts = limiter_for(limit), 1_000.0, 0, []
    for number, (what, amount) in enumerate(steps):
        if what == "dispatch":
            unstarted += max(0, min(limiter.capacity_left(now, unstarted), math.ceil(amount * limit.limit)))
        elif what == "start" and unstarted:
            unstarted -= 1
            limiter.started(now)
            starts.append(now)
        elif what == "drop" and unstarted:
            unstarted -= 1
        elif what == "wait":
            now += amount * limit.per / 2
        if number % 17 == 0:
            limiter = limiter_from(limit, limiter.state())
    return starts


@settings(max_examples=200, deadline=None)
@given(limit=st.integers(1, 20), per=st.floats(0.1, 100.0), steps=STEPS)
def test_no_period_has_more_starts_than_the_limit(limit: int, per: float, steps: list[tuple[str, float]]) -> None:
    starts = play(RateLimit(limit=limit, per=per), steps)
    for first in range(len(starts) - limit):
        assert starts[first + limit] - starts[first] >= per * (1 - 1e-9)


@settings(max_examples=200, deadline=None)
@given(limit=st.integers(1, 20), per=st.floats(0.1, 100.0), burst=st.integers(1, 10), steps=STEPS)
def test_a_bucket_never_gives_more_than_it_holds_and_gets(
    limit: int, per: float, burst: int, steps: list[tuple[str, float]]
) -> None:
    starts = play(RateLimit(limit=limit, per=per, burst=burst), steps)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            seconds = starts[last] - starts[first]
            assert last - first + 1 <= burst + seconds * limit / per + 1e-6


def test_there_is_room_again_when_the_meter_says_so() -> None:
    for limit in (RateLimit(limit=2, per=10.0), RateLimit(limit=2, per=10.0, burst=2)):
        limiter = limiter_for(limit)
        for _ in range(2):
            limiter.started(100.0)
        assert limiter.capacity_left(100.0, 0) == 0
        assert limiter.capacity_left(limiter.next_capacity(100.0), 0) >= 1
        assert limiter.next_capacity(100.0) <= 100.0 + 10.0 + 10.0 / 60 + 1e-6
        assert limiter.idle(200.0)


def test_a_changed_limit_counts_what_has_started() -> None:
    limiter = SlidingWindow(RateLimit(limit=5, per=60.0))
    for _ in range(4):
        limiter.started(100.0)
    changed = limiter_after_change(limiter, RateLimit(limit=3, per=60.0))
    assert changed is not None
    assert changed.capacity_left(100.0, 0) == -1
    assert limiter_after_change(limiter, None) is None
