"""Turns units into the arrays of `rota_append`. Pure; the SQL function is in migrations/0001_log.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from adapters.codec import encode_event, encode_meta
from domain.ids import Position
from domain.log import Appended, Unit

APPEND = (
    "select base, recorded, conflicts, current_term from rota_append($1::bigint,"
    "$2::uuid[],$3::int[],$4::int[],$5::int[],$6::text[],$7::int[],$8::text[],$9::text[],$10::text[],$11::text[],"
    "$12::timestamptz[],"
    "$13::uuid[],$14::int[],$15::int[],$16::int[],$17::text[],$18::int[],$19::timestamptz[],"
    "$20::uuid[],$21::int[],$22::int[],"
    "$23::uuid[],$24::int[],$25::int[],$26::int[],"
    "$27::uuid[],$28::int[],$29::text[],$30::text[],$31::text[])"
)
_EMPTY_TAGS = "{}"


class AppendArrays:
    """The arguments of one append call, and the place of each unit's events among all."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.arguments: tuple[list[Any], ...] = tuple([] for _ in range(30))
        self.spans: list[tuple[int, int]] = []
        offset = 0
        for unit in units:
            first = offset + 1
            offset = self._add(unit, offset)
            self.spans.append((first, offset))

    def appended(self, base: int, recorded_at: datetime) -> list[Appended]:
        """Where the units are, when the event before the first one is at `base`."""
        return [Appended(Position(base + first), Position(base + last), recorded_at) for first, last in self.spans]

    def _add(self, unit: Unit, offset: int) -> int:
        (ji_id, ji_version, ji_last, ji_first, ji_state, ji_attempt, ji_queue, ji_priority, ji_task, ji_tags, ji_due,
         ju_id, ju_expected, ju_version, ju_last, ju_state, ju_attempt, ju_due,
         si_id, si_version, si_last,
         su_id, su_expected, su_version, su_last,
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
            elif expected == 0:
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
            else:
                ju_id.append(write.stream_id)
                ju_expected.append(expected)
                ju_version.append(version)
                ju_last.append(offset)
                ju_state.append(head.state)
                ju_attempt.append(head.attempt)
                ju_due.append(head.due_at)
        return offset
