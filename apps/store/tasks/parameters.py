"""What tasks have announced of their parameters and options, held against what a job gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rota_server.apps.store.http.json_body import shown
from rota_server.apps.store.tasks.suggestions import did_you_mean
from rota_server.domain.errors import Rejected


def refuse_ambiguous(value: Any, keywords: Sequence[str], known: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Refuse keywords of a program that are options of the job as well as arguments of its task.

    Only the program knows what it wrote as a keyword, and only an executor's announcement what the task takes. Raises
    Rejected.
    """
    if not keywords or known is None or not isinstance(value, dict) or not isinstance(value.get("task"), str):
        return
    parameters = known.get(value["task"], {}).get("parameters") or {}
    args = value.get("args") or {}
    for name in keywords:
        if name in parameters and name not in args:
            message = (
                f"{name}: is an argument of {value['task']} and an option of jobs: give the arguments as "
                f"args={{...}}, then every other keyword is an option"
            )
            raise Rejected(message, field=name, code="ambiguous")


def of_declaration(error: Rejected, task: object, given: Mapping[str, Any]) -> Rejected:
    """The refusal as it is, unless what is wrong was never given, but stands where the task is declared."""
    place = (error.field or "").split(".")
    inner = given.get(place[0])
    mine = place[0] in given and (len(place) == 1 or not isinstance(inner, dict) or place[1] in inner)
    if error.field is None or mine:
        return error
    message = f"{error}: so the task {task} is declared; the submission can only give something else"
    return Rejected(message, field=error.field, code="wrong-declaration")


def check_parameters(task: str, args: Mapping[str, Any], options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """A task that announced its parameters gets those, or the submission is refused at once. Raises Rejected."""
    parameters = options.get("parameters")
    if not isinstance(parameters, dict):
        return
    if not options.get("any_keyword"):
        for name in args:
            if name not in parameters:
                hint = did_you_mean(name, parameters)
                message = f"args.{shown(name)}: {task} does not take it{hint}"
                raise Rejected(message, field=f"args.{shown(name)}", code="unknown-field")
    for name, needed in parameters.items():
        if needed and name not in args:
            hint = f"; {name} was given as the option of the job" if name in given else ""
            raise Rejected(f"args.{name}: {task} needs it{hint}", field=f"args.{name}", code="missing")
