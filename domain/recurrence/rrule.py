"""Recurrence rules bound to their DTSTART and zone, as wall-clock times.

DAILY and coarser rules give wall-clock times, like a cron rule for fixed times. HOURLY and finer follow elapsed time:
the intervals are counted in time that passed since DTSTART, the BY... parts look at the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from datetime import date
from functools import lru_cache
from math import gcd

from rota_server.domain.recurrence import zones
from rota_server.domain.recurrence.day_times import NONE, DayTimes
from rota_server.domain.recurrence.instants import DAY, EPOCH_ORDINAL
from rota_server.domain.recurrence.limits import LAST_YEAR
from rota_server.domain.recurrence.rrule_days import DayFilter
from rota_server.domain.recurrence.rrule_text import Moment, RRule
from rota_server.domain.recurrence.zones import Zone

_WHOLE_DAY = (1 << DAY) - 1
_UNITS = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
_OFFSETS_STEP = 900
"""Offsets of zones are multiples of this, so it divides what a change of offset does to a grid of intervals."""
_SEARCH_STEPS_MAXIMUM = 20_000
"""Steps without success after which a search is given up, about a tenth of a second: one for each day of 54 years."""
_GRIDS_KEPT = 64
"""Days' times, as bits, that one rule keeps: ten kilobytes each."""
DEFAULT_START = date(2001, 1, 1)
"""What a rule without DTSTART counts from: a Monday, the first of a month and of a year, at midnight."""
DEFAULT_START_LOCAL = (DEFAULT_START.toordinal() - EPOCH_ORDINAL) * DAY


class BoundRRule:
    """A recurrence rule that knows where it starts.

    `start_local`: DTSTART on the wall clock, in seconds since 1970. `start_second`: its instant, which tells the two
    passes of a fold apart; the first one unless given.
    """

    def __init__(self, rule: RRule, zone: Zone, start_local: int, start_second: int | None = None) -> None:
        self.elapsed = rule.elapsed
        self.offset_matters = rule.elapsed
        self.start_local = start_local
        self._start_day = start_local // DAY
        start = date.fromordinal(self._start_day + EPOCH_ORDINAL)
        self._frequency = rule.frequency
        self._interval = rule.interval
        self._days = DayFilter(rule, start)
        self._times = _day_times(rule, start_local % DAY)
        self._positions = rule.by_set_position
        self._month0 = start.year * 12 + start.month - 1
        self._week0 = self._start_day - (start.weekday() - rule.week_start) % 7
        self._unit = _UNITS.get(rule.frequency, DAY)
        if start_second is None:
            start_second = zone.earliest(start_local)
        start_offset = zone.offset_at(start_second) if rule.elapsed else 0
        self._grid0 = start_local // self._unit * self._unit - start_offset
        self._feasible = self._has_positions() and (not rule.elapsed or self._meets_grid())
        self._on_grid: dict[int, int] = {}
        self._chosen_bits: int | None = None
        self._in_search = False
        self._steps_left = _SEARCH_STEPS_MAXIMUM
        self._far: tuple[int, int | None] = (0, -1)

    def fresh(self) -> BoundRRule:
        """The same rule for one search: the steps that its questions may take in vain are counted together."""
        search = copy(self)
        search._in_search = True  # noqa: SLF001 # a copy of itself
        search._steps_left = _SEARCH_STEPS_MAXIMUM  # noqa: SLF001
        return search

    def next_local(self, local: int, offset: int, limit: int) -> int | None:
        """The first wall-clock time at or after `local`; None, or one from `limit` on, when there is none before."""
        if not self._in_search:
            self._steps_left = _SEARCH_STEPS_MAXIMUM
        return self._next_kept(local, offset, limit, None if self._in_search else limit)

    def _next_kept(self, local: int, offset: int, limit: int, horizon: int | None) -> int | None:
        """The next one; days behind `horizon` need not be looked at."""
        if not self.elapsed:
            local = max(local, self.start_local)
        return self._next(local, offset, limit, horizon)

    def count_local(self, low: int, high: int, offset: int) -> int:
        """How many wall-clock times lie in [low, high)."""
        if not self._feasible:
            return 0
        if not self.elapsed:
            low = max(low, self.start_local)
        if self._positions and not self.elapsed:
            return self._count_walking(low, high, offset)
        return sum(self._count_day(day, low, high, offset) for day in range(low // DAY, -(-high // DAY)))

    def _count_walking(self, low: int, high: int, offset: int) -> int:
        return sum(1 for _ in self._walk(low, high, offset))

    def _count_day(self, day: int, low: int, high: int, offset: int) -> int:
        """How many lie on the day and in [low, high), mostly without walking.

        To walk through a year of a rule for every second takes minutes.
        """
        at = date.fromordinal(day + EPOCH_ORDINAL)
        if not (self._month_counts(at.year * 12 + at.month - 1) and self._chooses(day) and self._day_counts(day)):
            return 0
        midnight = day * DAY
        low, high = max(low, midnight), min(high, midnight + DAY)
        if not self._positions and (not self.elapsed or self._interval == 1):
            return self._times.count_below(high - midnight) - self._times.count_below(low - midnight)
        bits = self._elapsed_bits((midnight - offset - self._grid0) // self._unit % self._interval)
        return (bits >> low - midnight & (1 << max(0, high - low)) - 1).bit_count()

    def _elapsed_bits(self, late: int) -> int:
        """The times of a day that counts, when midnight is so many units behind the grid of intervals."""
        if late not in self._on_grid:
            if len(self._on_grid) >= _GRIDS_KEPT:
                self._on_grid.clear()
            self._on_grid[late] = self._times_bits() & self._grid_bits(late)
        return self._on_grid[late]

    def day_bits(self, day: int, offset: int) -> int:
        """The wall-clock times of a day, as one bit for each of its seconds."""
        if not self._feasible:
            return 0
        midnight = day * DAY
        if self._positions and not self.elapsed:
            return sum(1 << found - midnight for found in self._walk(midnight, midnight + DAY, offset))
        at = date.fromordinal(day + EPOCH_ORDINAL)
        if not (self._month_counts(at.year * 12 + at.month - 1) and self._chooses(day) and self._day_counts(day)):
            return 0
        if self.elapsed:
            return self._elapsed_bits((midnight - offset - self._grid0) // self._unit % self._interval)
        bits = self._times_bits()
        early = max(0, min(DAY, self.start_local - midnight))
        return bits >> early << early

    def _times_bits(self) -> int:
        """The times of any day that counts; with BYSETPOS those alone that it chooses in their hour or minute."""
        bits = self._times.bits()
        if not self._positions or self._unit == 1:
            return bits
        if self._chosen_bits is None:
            chosen = 0
            for period in range(0, DAY, self._unit):
                if bits >> period & (1 << self._unit) - 1:
                    low, high = self._times.count_below(period), self._times.count_below(period + self._unit)
                    for position in self._positions:
                        index = low + position - 1 if position > 0 else high + position
                        chosen |= 1 << self._times.at(index) if low <= index < high else 0
            self._chosen_bits = chosen
        return self._chosen_bits

    def _grid_bits(self, late: int) -> int:
        """The seconds of a day that lie on the grid of intervals, when midnight is so many units behind it."""
        if self._interval == 1:
            return _WHOLE_DAY
        begin, step = (self._interval - late) % self._interval * self._unit, self._interval * self._unit
        if begin >= DAY:
            return 0
        bits, length = (1 << self._unit) - 1, step
        while length < DAY:
            bits |= bits << length
            length *= 2
        return bits << begin & _WHOLE_DAY

    def nth_local(self, low: int, high: int, offset: int, count: int) -> tuple[int, int | None]:
        """How many lie in [low, high), if there are fewer than `count`; else `count`, and that one.

        Walks no further than there: a rule for every second would else be walked through a year.
        """
        within = 0
        if self.elapsed:
            return self._nth_elapsed(low, high, offset, count)
        for found in self._walk(low, high, offset):
            within += 1
            if within == count:
                return count, found
        return within, None

    def _nth_elapsed(self, low: int, high: int, offset: int, count: int) -> tuple[int, int | None]:
        """As `nth_local`, day by day: to walk through what an absurd interval leaves of a dense rule takes minutes."""
        within = 0
        if not self._feasible:
            return 0, None
        for day in range(low // DAY, -(-high // DAY)):
            here = self._count_day(day, low, high, offset)
            if within + here < count:
                within += here
                continue
            first, last = max(low, day * DAY), min(high, (day + 1) * DAY)
            while last - first > 1:
                middle = (first + last) // 2
                before = self._count_day(day, first, middle, offset)
                if within + before >= count:
                    last = middle
                else:
                    within, first = within + before, middle
            return count, first
        return within, None

    def _walk(self, low: int, high: int, offset: int) -> Iterator[int]:
        """Those in [low, high). It ends there: else a rare rule would be searched to the end of time in each piece."""
        found = self._next_kept(low, offset, high, high)
        while found is not None and found < high:
            yield found
            found = self._next_kept(found + 1, offset, high, high)

    def _next(self, local: int, offset: int, limit: int, horizon: int | None) -> int | None:
        if not self._feasible:
            return None
        if self.elapsed:
            return self._next_elapsed(local, offset, limit)
        if self._positions:
            return self._next_position(local, horizon)
        return self._next_plain(local, horizon)

    def _next_plain(self, local: int, limit: int | None = None) -> int | None:
        day, time = divmod(local, DAY)
        found = self._next_day(day, limit)
        if found == day:
            later = self._times.next(time)
            if later != NONE:
                return day * DAY + later
            found = self._next_day(day + 1, limit)
        return None if found is None else found * DAY + self._times.first

    def _next_day(self, day: int, limit: int | None = None) -> int | None:
        """The first day at or after `day` that the day parts and the interval choose; searched for up to `limit`."""
        end = (LAST_YEAR + 2) * 12
        if limit is not None:
            last = date.fromordinal(limit // DAY + EPOCH_ORDINAL)
            end = min(end, last.year * 12 + last.month)
        first = date.fromordinal(day + EPOCH_ORDINAL)
        month, wanted = first.year * 12 + first.month - 1, first.day
        while month < end:
            if self._month_counts(month):
                year, zero_month = divmod(month, 12)
                for number in self._days.of(year, zero_month + 1):
                    if number >= wanted:
                        ordinal = date(year, zero_month + 1, number).toordinal() - EPOCH_ORDINAL
                        if self._day_counts(ordinal):
                            return ordinal
            wanted = 1
            month += 1
        return None

    def _month_counts(self, month: int) -> bool:
        if self._frequency == "MONTHLY":
            return (month - self._month0) % self._interval == 0
        if self._frequency == "YEARLY":
            return (month // 12 - self._month0 // 12) % self._interval == 0
        return True

    def _day_counts(self, day: int) -> bool:
        if self._frequency == "DAILY":
            return (day - self._start_day) % self._interval == 0
        if self._frequency == "WEEKLY":
            return (day - self._week0) // 7 % self._interval == 0
        return True

    def _next_position(self, local: int, horizon: int | None) -> int | None:
        """With BYSETPOS: the first chosen one, period by period."""
        day = self._next_day(local // DAY, horizon)
        while day is not None and (horizon is None or day * DAY < horizon):
            first, following, days = self._period(day)
            for time in self._chosen(days):
                if time >= local:
                    return time
            day = self._next_day(max(following, first + 1), horizon)
        return None

    def _chosen(self, days: list[int]) -> list[int]:
        size = self._times.size
        total = len(days) * size
        indexes = {position - 1 if position > 0 else total + position for position in self._positions}
        return [
            days[index // size] * DAY + self._times.at(index % size) for index in sorted(indexes) if 0 <= index < total
        ]

    def _period(self, day: int) -> tuple[int, int, list[int]]:
        """First day, first day after, and the chosen days of the period that contains `day`."""
        at = date.fromordinal(day + EPOCH_ORDINAL)
        if self._frequency == "DAILY":
            return day, day + 1, [day]
        if self._frequency == "WEEKLY":
            first = day - (day - self._week0) % 7
            return first, first + 7, [one for one in range(first, first + 7) if self._chooses(one)]
        months = range(at.month, at.month + 1) if self._frequency == "MONTHLY" else range(1, 13)
        first = _day_number(at.year, months[0], 1)
        last = _day_number(at.year + months[-1] // 12, months[-1] % 12 + 1, 1)
        days = [_day_number(at.year, month, number) for month in months for number in self._days.of(at.year, month)]
        return first, last, days

    def _chooses(self, day: int) -> bool:
        at = date.fromordinal(day + EPOCH_ORDINAL)
        return at.day in self._days.of(at.year, at.month)

    def _next_elapsed(self, local: int, offset: int, limit: int) -> int | None:
        """Leapfrog: the next time that the parts choose, the next one on the grid of intervals, until they meet."""
        unit = self._unit
        while self._steps_left > 0:
            self._steps_left -= 1
            found = self._next_plain_remembered(local)
            if found is None or found >= limit:
                return None
            period = found // unit * unit
            late = (period - offset - self._grid0) // unit % self._interval
            if late:
                local = period + (self._interval - late) * unit
                continue
            chosen = self._position_in(period, found) if self._positions else found
            if chosen is not None:
                self._steps_left = _SEARCH_STEPS_MAXIMUM
                return chosen
            local = period + unit
        return None

    def _next_plain_remembered(self, local: int) -> int | None:
        """A far answer is asked for again in each piece of constant offset on the way to it."""
        asked, answer = self._far
        if asked <= local and (answer is None or local <= answer):
            return answer
        answer = self._next_plain(local)
        self._far = (local, answer)
        return answer

    def _position_in(self, period: int, local: int) -> int | None:
        """With BYSETPOS: the first chosen time of an hour, minute or second at or after `local`."""
        day, time = divmod(period, DAY)
        low, high = self._times.count_below(time), self._times.count_below(time + self._unit)
        total = high - low
        indexes = sorted({position - 1 if position > 0 else total + position for position in self._positions})
        times = (day * DAY + self._times.at(low + index) for index in indexes if 0 <= index < total)
        return next((one for one in times if one >= local), None)

    def _has_positions(self) -> bool:
        """Whether a period can be large enough for one of the positions."""
        if not self._positions:
            return True
        if self.elapsed:
            size = self._times.count_below(self._times.first // self._unit * self._unit + self._unit)
        else:
            size = self._times.size * {"YEARLY": 366, "MONTHLY": 31, "WEEKLY": 7, "DAILY": 1}[self._frequency]
        return any(abs(position) <= size for position in self._positions)

    def _meets_grid(self) -> bool:
        """Whether any chosen time of day can ever lie on the grid, whatever the offset."""
        step = gcd(self._interval * self._unit, _OFFSETS_STEP)
        if step <= self._unit:
            return True
        within_hour = range(self._times.count_below(self._times.first // 3600 * 3600 + 3600))
        return self._grid0 % step in {self._times.at(index) // self._unit * self._unit % step for index in within_hour}


@lru_cache(maxsize=4096)
def bind(rule: RRule, zone: Zone, start_local: int, start_second: int | None = None) -> BoundRRule:
    """The rule with its DTSTART, kept for the next question."""
    return BoundRRule(rule, zone, start_local, start_second)


def local_of(moment: Moment, zone: Zone) -> int:
    """A moment on the wall clock of `zone`, whatever zone it was written in."""
    if moment.utc:
        return moment.local + zone.offset_at(moment.local)
    if moment.zone is None or moment.zone == zone.name:
        return moment.local
    second = zones.zone(moment.zone).earliest(moment.local)
    return second + zone.offset_at(second)


def _day_times(rule: RRule, start_time: int) -> DayTimes:
    """BYHOUR, BYMINUTE, BYSECOND; the silent ones are all when the frequency steps over them, else DTSTART's."""
    hour, rest = divmod(start_time, 3600)
    minute, second = divmod(rest, 60)
    hours = rule.by_hour or (tuple(range(24)) if rule.elapsed else (hour,))
    every_minute = rule.frequency in {"MINUTELY", "SECONDLY"}
    minutes = rule.by_minute or (tuple(range(60)) if every_minute else (minute,))
    seconds = rule.by_second or (tuple(range(60)) if rule.frequency == "SECONDLY" else (second,))
    return DayTimes(hours, minutes, seconds)


def _day_number(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() - EPOCH_ORDINAL
