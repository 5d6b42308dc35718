from __future__ import annotations

import struct
from datetime import datetime, timedelta
from importlib import resources
from itertools import pairwise, takewhile

import pytest

from rota_server.domain.recurrence.zones import Zone, zone, zone_names
from tests.unit.recurrence.specification import utc

NAMES = sorted(zone_names())


def second(instant: datetime) -> int:
    return int(instant.timestamp())


def pieces(one: Zone, first: datetime, last: datetime) -> list[tuple[int, int, int, int, int]]:
    return list(takewhile(lambda piece: piece.start < second(last), one.pieces_from(second(first))))


def test_the_zones_are_those_of_the_package_and_not_of_the_machine() -> None:
    assert {"UTC", "Europe/Berlin", "US/Eastern", "Antarctica/Troll"} <= zone_names()
    assert all(resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).is_file() for name in NAMES)
    assert zone("Europe/Berlin") is zone("Europe/Berlin")


def written_changes(name: str) -> dict[int, int]:
    """Second and new offset of each change of offset in the zone's file (RFC 8536, the second block)."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()

    def header(at: int) -> tuple[int, ...]:
        assert data[at : at + 4] == b"TZif"
        return struct.unpack(">6l", data[at + 20 : at + 44])

    isut, isstd, leap, times, types, chars = header(0)
    at = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    *_, times, types, _ = header(at)
    at += 44
    seconds = struct.unpack(f">{times}q", data[at : at + times * 8])
    indexes = data[at + times * 8 : at + times * 9]
    at += times * 9
    offsets = [struct.unpack(">l", data[at + index * 6 : at + index * 6 + 4])[0] for index in range(types)]
    changes = [(when, offsets[index]) for when, index in zip(seconds, indexes, strict=True)]
    return {when: offset for (_, before), (when, offset) in pairwise(changes) if before != offset}


@pytest.mark.parametrize("letter", sorted({name[0] for name in NAMES}))
def test_pieces_are_cut_at_each_change_of_offset_and_nowhere_else(letter: str) -> None:
    first, last = utc(2000, 1, 1), utc(2038, 1, 1)
    new_years = {second(utc(year, 1, 1)) for year in range(2000, 2038)}
    for name in (name for name in NAMES if name[0] == letter):
        one = zone(name)
        found = pieces(one, first, last)
        assert all(earlier.end == later.start for earlier, later in pairwise(found))
        assert all(earlier.after == later.offset for earlier, later in pairwise(found))
        assert all(later.before == earlier.offset for earlier, later in pairwise(found))
        assert all(piece.offset % 900 == 0 for piece in found)
        cuts = {piece.start: piece.offset for piece in found if piece.before != piece.offset}
        written = {when: to for when, to in written_changes(name).items() if second(first) <= when < second(last)}
        assert written.items() <= cuts.items(), name
        assert {piece.start for piece in found} <= new_years | cuts.keys()
        if max(written, default=0) > second(utc(2037, 1, 1)):  # else the file ends with a rule
            assert written == cuts, name


def test_offsets_inside_pieces_hold_at_every_quarter_of_an_hour() -> None:
    for name in (
        "Africa/Casablanca",
        "Africa/Cairo",
        "America/Asuncion",
        "Asia/Gaza",
        "Antarctica/Troll",
        "Asia/Tehran",
    ):
        one = zone(name)
        for piece in pieces(one, utc(2009, 1, 1), utc(2016, 1, 1)):
            assert {one.offset_at(at) for at in range(piece.start, piece.end, 900)} == {piece.offset}


def test_a_wall_clock_time_has_its_first_and_its_last_instant() -> None:
    berlin = zone("Europe/Berlin")
    twice, never, once = (second(utc(*parts)) for parts in ((2027, 10, 31, 2, 30), (2027, 3, 28, 2, 30), (2027, 6, 1)))
    assert berlin.earliest(twice) == second(utc(2027, 10, 31, 0, 30))
    assert berlin.latest(twice) == second(utc(2027, 10, 31, 1, 30))
    assert berlin.earliest(never) == berlin.latest(never) == second(utc(2027, 3, 28, 1))
    assert berlin.earliest(once) == berlin.latest(once) == second(utc(2027, 5, 31, 22))
    apia = zone("Pacific/Apia")
    assert apia.earliest(second(utc(2011, 12, 30, 12))) == second(utc(2011, 12, 30, 10))


def test_a_walk_through_two_centuries_keeps_few_years() -> None:
    one = zone("America/Chicago")
    assert len(list(one.pieces_from(second(utc(2000, 1, 1))))) > 600
    assert len(one._years) <= 32


def test_the_last_year_ends() -> None:
    last = list(zone("Europe/Berlin").pieces_from(second(utc(2200, 12, 1))))
    assert last[-1].end == second(utc(2201, 1, 1))
    assert last[-1].end - last[0].start < timedelta(days=370).total_seconds()
