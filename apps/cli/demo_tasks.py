"""The tasks of `rota demo`: what it does with the modules of Python's standard library. Runs in task processes."""

from __future__ import annotations

import keyword
import time
import tokenize
from pathlib import Path

from rota import current_job, task


@task(name="demo.count", timeout=60)
def count(path: str) -> dict[str, object]:
    """Tokenize a Python file; count its lines, names and comments."""
    lines = names = comments = 0
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                names += 1
            elif token.type == tokenize.COMMENT:
                comments += 1
            lines = max(lines, token.end[0])
    return {"file": Path(path).name, "lines": lines, "names": names, "comments": comments}


@task(name="demo.impossible", timeout=10)
async def impossible(divisor: int) -> float:
    """Fail, whatever the divisor is: the demo passes 0."""
    return 1 / divisor


@task(name="demo.wait_for_ever", timeout=300)
def wait_for_ever() -> None:
    """Run until somebody cancels it."""
    while True:
        current_job().progress(0.5, "waiting to be cancelled")
        time.sleep(0.05)
