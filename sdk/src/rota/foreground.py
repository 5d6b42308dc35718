"""Runs one task here and now, in the foreground: `python -m rota.foreground TASK name=value --tasks FILE`.

Standard input and output are the terminal's, so `breakpoint()` works. No server takes part; nothing is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import traceback
from typing import Any, Dict, List, Optional

from rota.errors import Mismatch, NotJson
from rota.json_types import parameter_types, text_or_json, typed_json
from rota.suggestions import did_you_mean
from rota.tasks import Task, registered
from rota.testing import running_job
from rota.values import plain
from rota.worker.loading import load_all


def main(argv: "Optional[List[str]]" = None) -> int:
    """Run the task; print its result as JSON. The exit status: 1 when it failed, 2 when it could not be run."""
    parser = argparse.ArgumentParser(prog="rota run", description="Run a task here and now, without any server.")
    parser.add_argument("task")
    parser.add_argument("arguments", nargs="*", metavar="name=value")
    parser.add_argument("--tasks", action="append", default=[], metavar="FILE", help="a module or file with tasks")
    parser.add_argument("--attempt", type=int, default=1, help="which attempt it believes to be")
    parser.add_argument("--pdb", action="store_true", help="when it raises, open the debugger there")
    given = parser.parse_args(argv)
    sys.argv[1:] = []
    error = load_all(given.tasks)["error"]
    if error and given.task not in registered():
        return _wrong(error)
    task = registered().get(given.task)
    if task is None:
        return _wrong(
            f"there is no task {given.task!r} in {', '.join(given.tasks) or 'no file'}"
            f"{did_you_mean(given.task, registered())}"
        )
    try:
        args = task.signature.arguments(_arguments(task, given.arguments))
        task.check_arguments(args)
    except (Mismatch, TypeError, ValueError) as wrong:
        return _wrong(str(wrong))
    return _run(task, args, attempt=given.attempt, debug=given.pdb)


def _run(task: "Task[Any, Any]", args: "Dict[str, Any]", *, attempt: int, debug: bool) -> int:
    with running_job(task=task.name, attempt=attempt, queue=task.defaults.get("queue", "default")) as job:
        job._report = _show_progress  # type: ignore[method-assign]  # noqa: SLF001 - as the task process does
        try:
            result = task.function(**args)
            if task.is_async:
                result = asyncio.run(result)
        except Exception as error:  # noqa: BLE001 - whatever the task raises
            tb = error.__traceback__
            traceback.print_exception(type(error), error, None if tb is None else tb.tb_next)
            if debug:
                import pdb  # noqa: PLC0415, T100 - asked for

                pdb.post_mortem(tb)
            return 1
    try:
        print(json.dumps(plain(result), ensure_ascii=False))  # noqa: T201 - the result is what was asked for
    except NotJson as error:
        print(f"rota: the result cannot be kept: {error.within('result')}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _arguments(task: "Task[Any, Any]", words: "List[str]") -> "Dict[str, Any]":
    types = parameter_types(task.signature.hints)
    found: "Dict[str, Any]" = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name:
            raise ValueError(f"{word!r} is not name=value")
        found[name] = text_or_json(text, typed_json(text), types.get(name, ()))
    return found


def _show_progress(fraction: Optional[float], message: Optional[str]) -> None:
    share = "" if fraction is None else f"{fraction:.0%} "
    print(f"progress: {share}{message or ''}".rstrip(), file=sys.stderr)  # noqa: T201


def _wrong(said: str) -> int:
    print(f"rota: {said}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
