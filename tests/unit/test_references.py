"""References to predecessors' results in arguments."""

from __future__ import annotations

from typing import Any

import pytest

from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.references import check_references, references_in, resolved

RESULTS = {"extract": {"body": {"items": [{"a.b": 1}, 2]}, "9": "nine"}, "none": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (None, RESULTS["extract"]),
        ("", RESULTS["extract"]),
        ("body.items.1", 2),
        ("9", "nine"),
        (["body", "items", 0, "a.b"], 1),
    ],
)
def test_a_reference_becomes_what_its_path_leads_to(path: Any, found: Any):
    reference = {"$result": "extract"} | ({} if path is None else {"path": path})
    args = {"deep": [{"in": reference}, "kept"], "plain": 1}
    assert resolved(args, RESULTS) == {"deep": [{"in": found}, "kept"], "plain": 1}


def test_a_result_that_is_null_is_a_result():
    assert resolved({"x": {"$result": "none"}}, RESULTS) == {"x": None}


@pytest.mark.parametrize(
    "path", ["body.items.2", "body.items.-1", "body.items.x", "nothing", "body.items.0.a.b", "9.0"]
)
def test_a_path_that_leads_nowhere_is_refused_with_the_arguments_place(path: str):
    with pytest.raises(Rejected, match=r"args\.deep\.0: the result has no") as refused:
        resolved({"deep": [{"$result": "extract", "path": path}]}, RESULTS)
    assert refused.value.field == "args.deep.0"


def test_a_result_that_is_not_there_is_refused_by_name():
    with pytest.raises(Rejected, match=r"args\.x: there is no result of load"):
        resolved({"x": {"$result": "load"}}, RESULTS)


def test_an_object_with_other_members_is_no_reference():
    args = {"x": {"$result": "extract", "more": 1}, "$result": "extract"}
    assert references_in(args) == []
    assert resolved(args, RESULTS) == args


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        ({"$result": 1}, "args.x"),
        ({"$result": "extract", "path": 1}, "args.x.path"),
        ({"$result": "extract", "path": [True]}, "args.x.path"),
        ({"$result": "extract", "path": ["a"] * 51}, "args.x.path"),
    ],
)
def test_a_reference_that_is_not_well_formed_is_refused(reference: Any, field: str):
    with pytest.raises(Rejected) as refused:
        references_in({"x": reference})
    assert refused.value.field == field


def test_only_predecessors_may_be_referred_to():
    found = references_in({"list": [{"$result": "extract"}, {"$result": "load"}]})
    check_references(found, {"extract", "load"})
    with pytest.raises(Rejected) as refused:
        check_references(found, {"extract"})
    assert refused.value.field == "args.list.1"
