"""Turns units into the arrays of `rota_append`. Pure; the SQL functions are in migrations/."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from rota_server.adapters.codec import encode_event, encode_meta
from rota_server.domain.ids import Position
from rota_server.domain.log import Appended, JobHead, ResourceHead, StreamWrite, Unit

APPEND = (
    "select base, recorded, conflicts, current_term, managed from rota_append($1::bigint,"
    "$2::uuid[],$3::int[],$4::int[],$5::int[],$6::text[],$7::int[],$8::text[],$9::text[],$10::text[],$11::text[],"
    "$12::timestamptz[],$13::text[],$14::text[],$15::uuid[],"
    "$16::uuid[],$17::int[],$18::int[],$19::int[],$20::text[],$21::int[],$22::timestamptz[],$23::text[],"
    "$24::uuid[],$25::int[],$26::int[],"
    "$27::uuid[],$28::int[],$29::int[],$30::int[],"
    "$31::uuid[],$32::int[],$33::int[],$34::int[],$35::text[],$36::text[],$37::text[],$38::boolean[],$39::timestamptz[],"
    "$40::uuid[],$41::int[],$42::int[],$43::int[],$44::text[],$45::boolean[],$46::timestamptz[],"
    "$47::uuid[],$48::uuid[],"
    "$49::uuid[],$50::int[],$51::text[],$52::text[],$53::text[])"
)
ARRAYS = 52


def append_of(writer: str) -> str:
    """The statement with which a `leader`, `store` or `executor` appends: its role may call no other one."""
    return APPEND.replace(" rota_append(", f" rota_append_as_{writer}(")


_EMPTY_TAGS = "{}"


class AppendArrays:
    """The arguments of one append call, and the place of each unit's events among all."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.arguments: tuple[list[Any], ...] = tuple([] for _ in range(ARRAYS))
        self.spans: list[tuple[int, int]] = []
        offset = 0
        for unit in units:
            first = offset + 1
            offset = self._add(unit, offset)
            self.spans.append((first, offset))

    def appended(self, base: int, recorded_at: datetime) -> list[Appended]:
        """Where the units are, when the event before the first one is at `base`."""
        return [Appended(Position(base + first), Position(base + last), recorded_at) for first, last in self.spans]

    def _add(self, unit: Unit, offset: int) -> int:  # noqa: PLR0915 - a statement an array: it is on every event's path
        (ji_id, ji_version, ji_last, ji_first, ji_state, ji_attempt, ji_queue, ji_priority, ji_task, ji_tags, ji_due,
         ji_key, ji_lane, ji_origin,
         ju_id, ju_expected, ju_version, ju_last, ju_state, ju_attempt, ju_due, ju_lane,
         si_id, si_version, si_last,
         su_id, su_expected, su_version, su_last,
         *_resources,
         d_predecessor, d_dependent,
         e_stream, e_version, e_type, e_data, e_meta) = self.arguments  # fmt: skip
        plain_meta = encode_meta(unit.meta, unit=unit.id).decode()
        for write in unit.writes:
            first, expected, head = offset + 1, write.expected_version, write.head
            version: int = expected
            for event in write.events:
                offset += 1
                version += 1
                cls = type(event)
                e_stream.append(write.stream_id)
                e_version.append(version)
                e_type.append(cls.__name__)
                e_data.append(encode_event(event).decode())
                schema = cls.schema
                e_meta.append(
                    plain_meta if schema == 1 else encode_meta(unit.meta, unit=unit.id, schema=schema).decode()
                )
            if head is None:
                if expected == 0:
                    si_id.append(write.stream_id)
                    si_version.append(version)
                    si_last.append(offset)
                else:
                    su_id.append(write.stream_id)
                    su_expected.append(expected)
                    su_version.append(version)
                    su_last.append(offset)
                continue
            if type(head) is ResourceHead:
                self._add_resource(write, head, version, first, offset)
                continue
            assert type(head) is JobHead  # noqa: S101 - there are no others
            if head.awaits:
                d_predecessor.extend(head.awaits)
                d_dependent.extend([write.stream_id] * len(head.awaits))
            if expected == 0:
                ji_id.append(write.stream_id)
                ji_version.append(version)
                ji_last.append(offset)
                ji_first.append(first)
                ji_state.append(head.state)
                ji_attempt.append(head.attempt)
                ji_queue.append(head.queue)
                ji_priority.append(head.priority)
                ji_task.append(head.task)
                ji_tags.append(orjson.dumps(head.tags).decode() if head.tags else _EMPTY_TAGS)
                ji_due.append(head.due_at)
                ji_key.append(head.key)
                ji_lane.append(head.lane)
                ji_origin.append(head.origin_id)
            else:
                ju_id.append(write.stream_id)
                ju_expected.append(expected)
                ju_version.append(version)
                ju_last.append(offset)
                ju_state.append(head.state)
                ju_attempt.append(head.attempt)
                ju_due.append(head.due_at)
                ju_lane.append(head.lane)
        return offset

    def _add_resource(self, write: StreamWrite, head: ResourceHead, version: int, first: int, last: int) -> None:
        doc = orjson.dumps(head.doc).decode()
        inserts, updates = self.arguments[29:38], self.arguments[38:45]
        values: tuple[Any, ...]
        if write.expected_version == 0:
            values = (write.stream_id, version, last, first, head.kind, head.name, doc, head.active, head.due_at)
            arrays = inserts
        else:
            values = (write.stream_id, write.expected_version, version, last, doc, head.active, head.due_at)
            arrays = updates
        for array, value in zip(arrays, values, strict=True):
            array.append(value)
