"""`rota run`: a task in the foreground, in the environment that the task processes would have."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def run(python: str | None, task: str, arguments: Sequence[str], tasks: Sequence[str], options: Sequence[str]) -> int:
    """Become the process that runs it: standard input and output stay the terminal's, for a debugger."""
    interpreter = python or sys.executable
    files = [word for one in tasks for word in ("--tasks", one)]
    sys.stdout.flush()
    os.execv(interpreter, [interpreter, "-m", "rota.foreground", *files, *options, "--", task, *arguments])  # noqa: S606
