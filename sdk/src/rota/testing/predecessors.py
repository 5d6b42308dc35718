"""What a job in memory waits for, and what it gets from it, as docs/workflows.md has it. Knows no client."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

FAILED = frozenset({"failed", "cancelled", "expired"})
ENDS = FAILED | {"succeeded"}
OUTCOMES: "Dict[str, frozenset[str]]" = {"succeeded": frozenset({"succeeded"}), "failed": FAILED, "ended": ENDS}


class Unresolved(Exception):
    """A reference to a result that leads nowhere."""


def predecessors(after: "Optional[List[Any]]", names: "Mapping[str, str]") -> "Optional[List[Dict[str, str]]]":
    """The entries of `after` with ids: what stands for a node of a workflow becomes its job. None when there are none.

    Raises ValueError for an outcome that there is not.
    """
    found = []
    for entry in after or ():
        one = {"job": entry} if isinstance(entry, str) else dict(entry)
        job, outcome = str(one["job"]), one.get("outcome") or "succeeded"
        if outcome not in OUTCOMES:
            raise ValueError(f"after: the outcome must be succeeded, failed or ended, not {outcome!r}")
        found.append({"job": names.get(job, job), "name": one.get("name") or job, "outcome": outcome})
    return found or None


def judge(fields: "Mapping[str, Any]", state_of: "Callable[[str], str]") -> "Tuple[str, Optional[str]]":
    """Whether the job is to `wait`, to `run` or to be cancelled (`cancel`, and why), by its predecessors' states."""
    entries, met, broken = fields["after"], 0, []
    for one in entries:
        state = state_of(one["job"])
        if state in OUTCOMES[one["outcome"]]:
            met += 1
        elif state in ENDS:
            broken.append((one, state))
    any_of = fields["after_mode"] == "any"
    if met == len(entries) or (any_of and met):
        return "run", None
    if not broken or (any_of and len(broken) < len(entries)):
        return "wait", None
    if fields["on_failure"] == "run" and met + len(broken) == len(entries):
        return "run", None
    if fields["on_failure"] == "cancel":
        one, state = broken[0]
        called = one["job"] if one["name"] == one["job"] else f"{one['name']} ({one['job']})"
        return "cancel", f"its predecessor {called} ended as {state}, not as {one['outcome']}"
    return "wait", None


def resolved(value: Any, results: "Mapping[str, Any]", place: str = "args") -> Any:
    """The arguments with what `{"$result": NAME, "path": ...}` means in their place. Raises Unresolved."""
    if isinstance(value, dict):
        if place != "args" and "$result" in value and value.keys() <= {"$result", "path"}:
            return _look_up(value, results, place)
        return {name: resolved(part, results, f"{place}.{name}") for name, part in value.items()}
    if isinstance(value, list):
        return [resolved(part, results, f"{place}.{index}") for index, part in enumerate(value)]
    return value


def _look_up(reference: "Mapping[str, Any]", results: "Mapping[str, Any]", place: str) -> Any:
    name, path = reference["$result"], reference.get("path") or []
    steps = [str(step) for step in (path.split(".") if isinstance(path, str) else path)]
    if name not in results:
        raise Unresolved(f"{place}: there is no result of {name}")
    found = results[name]
    for number, step in enumerate(steps):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            walked = ".".join((name, *steps[:number]))
            raise Unresolved(f"{place}: the result has no {'.'.join(steps)} ({walked} has no {step})")
    return found
