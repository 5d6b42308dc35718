"""What Python values are in JSON, and what becomes of them on the other side."""

from __future__ import annotations

import enum
import typing
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from rota import Mismatch, NotJson, job
from rota.json_types import json_types
from rota.typed import Signature, converter
from rota.values import COUNT_LIMIT, plain, plain_arguments

UUID_TEXT = "01a20f4f-0000-7000-8000-000000000000"


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Line:
    price: Decimal
    at: datetime | None = None
    next: Line | None = None
    seen: set[int] = field(default_factory=set)


class Order(BaseModel):
    id: UUID
    total: Decimal
    due: date


class Point(NamedTuple):
    x: Decimal
    y: int


class Options(TypedDict, total=False):
    until: date


UserId = NewType("UserId", UUID)
AT = datetime(2027, 1, 1, 9, 30, tzinfo=timezone(timedelta(hours=1)))

BOTH_WAYS = [
    (datetime, AT, "2027-01-01T09:30:00+01:00"),
    (datetime, datetime(2027, 1, 1, 9, 30, 0, 5), "2027-01-01T09:30:00.000005"),  # noqa: DTZ001 - it has no zone
    (date, date(2027, 1, 1), "2027-01-01"),
    (time, time(9, 30), "09:30:00"),
    (timedelta, timedelta(minutes=1), 60),
    (timedelta, timedelta(milliseconds=1500), 1.5),
    (Decimal, Decimal("1.10"), "1.10"),
    (UUID, UUID(UUID_TEXT), UUID_TEXT),
    (set[int], {3, 1, 2}, [1, 2, 3]),
    (frozenset[UUID], frozenset({UUID(UUID_TEXT)}), [UUID_TEXT]),
    (tuple[int, ...], (1, 2), [1, 2]),
    (tuple[date, int], (date(2027, 1, 1), 2), ["2027-01-01", 2]),
    (deque[int], deque([1]), [1]),
    (Colour, Colour.RED, "red"),
    (Colour, Colour.PAIR, [1, 2]),
    (Level, Level.HIGH, 3),
    (bytes, b"\x00\xff", "AP8="),
    (Path, Path("/tmp/x"), "/tmp/x"),
    (PurePosixPath, PurePosixPath("a/b"), "a/b"),
    (Line, Line(Decimal(1), AT, Line(Decimal(2))),
     {"price": "1", "at": "2027-01-01T09:30:00+01:00", "seen": [],
      "next": {"price": "2", "at": None, "next": None, "seen": []}}),
    (Order, Order(id=UUID(UUID_TEXT), total=Decimal("9.90"), due=date(2027, 1, 1)),
     {"id": UUID_TEXT, "total": "9.90", "due": "2027-01-01"}),
    (Point, Point(Decimal("0.5"), 1), ["0.5", 1]),
    (Options, {"until": date(2027, 1, 1)}, {"until": "2027-01-01"}),
    (UserId, UUID(UUID_TEXT), UUID_TEXT),
    (Annotated[date, "a note"], date(2027, 1, 1), "2027-01-01"),
    (list[Line], [Line(Decimal(1))], [{"price": "1", "at": None, "next": None, "seen": []}]),
    (Sequence[date], [date(2027, 1, 1)], ["2027-01-01"]),
    (dict[int, date], {1: date(2027, 1, 1)}, {"1": "2027-01-01"}),
    (Mapping[UUID, int], {UUID(UUID_TEXT): 1}, {UUID_TEXT: 1}),
    (dict[str, set[int]], OrderedDict(a={1}), {"a": [1]}),
    (date | None, None, None),
    (date | int, 5, 5),
    (typing.Optional[date], date(2027, 1, 1), "2027-01-01"),  # noqa: UP045 - as it was written before 3.10
    (str | datetime, "2027-01-01T00:00:00", "2027-01-01T00:00:00"),
    (Literal["never"] | date, "never", "never"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value", "json"), BOTH_WAYS)
def test_a_value_has_one_form_in_json_and_comes_back_where_the_annotation_says_so(
    hint: Any, value: Any, json: Any
) -> None:
    assert plain(value) == json
    back = converter(hint)
    restored = json if back is None else back(json)
    assert (restored, type(restored)) == (value, dict if isinstance(value, dict) else type(value))


@pytest.mark.parametrize("hint", [Any, str, int, list, dict, list[int], dict[str, Any], "nonsense", Literal[1], None])
def test_what_json_has_itself_passes_as_it_is(hint: Any) -> None:
    assert converter(hint) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1: "a", "1": "b"}, "1: two keys are '1' as texts"),
        ({"a": [0, {"b": float("nan")}]}, "a.1.b: nan is no number in JSON"),
        ([float("-inf")], "0: -inf is no number in JSON"),
        ("\ud800", "contains a lone surrogate"),
        ({"\ud800": 1}, "contains a lone surrogate"),
        (2**64, "a number beyond 64 bits"),
        ({"a": object()}, "a: a builtins.object, which has no form in JSON"),
        ([Line], "0: Line is a class"),
        ({(1, 2): 1}, "a key is a tuple"),
        ((n for n in ()), "a generator: make it a list"),
        (len, "a function: call it"),
        (Line(Decimal(1), next=Line(Decimal(1), seen={float("inf")})), "next.seen.0: inf"),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_form_is_refused_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(NotJson) as refused:
        plain(value)
    assert str(refused.value).startswith(said)
    with pytest.raises(TypeError, match=r"^args\.x"):
        job("t", args={"x": value})


def test_cycles_and_bottomless_and_endless_values_are_refused_soon() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    with pytest.raises(NotJson, match=r"1\.again: contains itself"):
        plain(cycle)
    deep: Any = None
    for _ in range(64):
        deep = [deep]
    assert plain(deep) == deep
    with pytest.raises(NotJson, match="nested deeper than 64"):
        plain([deep])
    many: Any = 1
    for _ in range(60):
        many = [many, many]
    with pytest.raises(NotJson, match=f"more than {COUNT_LIMIT} values"):
        plain(many)
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]], "twice is not within itself"


def test_arguments_may_not_hold_what_no_database_takes() -> None:
    with pytest.raises(NotJson, match=r"args.a.0: contains a NUL"):
        plain_arguments({"a": ["\x00"]})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@given(json_values)
def test_json_is_itself(value: Any) -> None:
    assert plain(value) == value


@given(st.sets(st.integers(-9, 9) | st.text("ab"), max_size=6), st.randoms(use_true_random=False))
def test_equal_sets_are_equal_arguments(values: set[Any], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert plain(values) == plain(set(shuffled))


def takes(when: datetime, order: Order, *, lines: list[Line], name: str = "", **rest: Decimal) -> set[int]:
    raise NotImplementedError


def test_arguments_that_are_not_what_they_should_be_are_named() -> None:
    signature = Signature(takes)
    good = signature.arguments({"when": "2027-01-01T00:00:00Z", "name": "5", "fee": "1.5"})
    assert good == {"when": datetime(2027, 1, 1, tzinfo=UTC), "name": "5", "fee": Decimal("1.5")}
    for args, said in (
        ({"when": "noon"}, "when: 'noon' is no date and time in ISO 8601"),
        ({"when": 5}, "when: 5 is no date and time"),
        ({"order": {"id": UUID_TEXT, "total": "1", "due": "x"}}, "order.due: "),
        ({"order": []}, "order: Input should be"),
        ({"lines": [{"price": "1"}, {"price": "x"}]}, "lines.1.price: 'x' is no decimal number"),
        ({"lines": [{"cost": "1"}]}, "lines.0.cost: Line has no such field"),
        ({"lines": [{}]}, "lines.0.price: Line needs it"),
        ({"lines": {}}, "lines: {} is no JSON array"),
        ({"fee": []}, "fee: [] is no decimal number"),
    ):
        with pytest.raises(Mismatch) as wrong:
            signature.arguments(args)
        assert str(wrong.value).startswith(said)
    assert signature.result([1]) == {1}


def test_annotations_that_can_not_be_resolved_do_not_hinder_the_others() -> None:
    def half_known(when: date, what: Unheard) -> None:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    signature = Signature(half_known)
    assert signature.arguments({"when": "2027-01-01", "what": [1]}) == {"when": date(2027, 1, 1), "what": [1]}


@pytest.mark.parametrize(
    ("hint", "kinds"),
    [
        (str, ["string"]),
        (str | None, ["null", "string"]),
        (int | date, ["integer", "string"]),
        (Level, ["integer"]),
        (Path, ["string"]),
        (list[int], ["array"]),
        (Literal["a", 1], ["integer", "string"]),
        (timedelta, ["number"]),
        (Any, []),
        (str | Any, []),
        (Line, []),
    ],
)
def test_the_json_types_of_an_annotation_are_those_that_its_values_have(hint: Any, kinds: list[str]) -> None:
    assert json_types(hint) == kinds
