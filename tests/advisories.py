"""Asks public advisories about what the locks name: `python -m tests.advisories PIP_AUDIT LOCK [LOCK ...]`.

pip-audit ends well when it was answered about nothing at all: where no source can be reached, or a mirror of an index
has no advisories. That is told apart here. Exit status: 0 nothing known against any of it, 1 something is, 3 no source
could be asked (which is said loudly, so that nobody takes it for 0).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SOURCES = ("pypi", "osv")
"""As pip-audit calls them; the first one that answers about something is enough."""

ANSWER_SECONDS = 10
SOURCE_SECONDS = 90.0
KNOWN, NOT_CHECKED = 1, 3


class Answer(NamedTuple):
    """What a source knows of one lock. `found`: advisories, a line each; `unanswered`: names it said nothing about."""

    asked: int
    found: list[str]
    unanswered: list[str]


Run = Callable[[Sequence[str], float], str]


def run(command: Sequence[str], seconds: float) -> str:
    """What the command prints, whatever its exit status; "" when it takes longer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def answer_of(printed: str) -> Answer | None:
    """pip-audit's report; None when it has none."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(printed)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    found = [
        f"{one['name']} {one['version']}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for vuln in one.get("vulns", ())
    ]
    return Answer(len(dependencies), found, [one["name"] for one in dependencies if "skip_reason" in one])


def ask(pip_audit: str, lock: str, run: Run) -> tuple[str, Answer] | None:
    """The first source that knows of any of it, and its answer."""
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    for source in SOURCES:
        command = [pip_audit, "-r", lock, "-s", source, "--timeout", str(ANSWER_SECONDS), *options]
        answer = answer_of(run(command, SOURCE_SECONDS))
        if answer is not None and len(answer.unanswered) < answer.asked:
            return source, answer
    return None


def main(pip_audit: str, locks: Sequence[str], run: Run = run) -> int:
    """Ask about each lock; the exit status."""
    statuses = []
    for lock in locks:
        found = ask(pip_audit, lock, run)
        if found is None:
            print(
                f"NOT CHECKED for known vulnerabilities: {lock}: no advisory source could be reached", file=sys.stderr
            )
            return NOT_CHECKED if KNOWN not in statuses else KNOWN
        source, answer = found
        for line in answer.found:
            print(f"{lock}: {line}")
        if answer.unanswered:
            print(f"NOT CHECKED: {lock}: {source} says nothing about {', '.join(answer.unanswered)}", file=sys.stderr)
        print(f"{lock}: {answer.asked - len(answer.unanswered)} packages asked about, {len(answer.found)} advisories")
        statuses.append(KNOWN if answer.found else 0)
    return max(statuses, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
