"""Submissions are checked by type checkers, with mypy standing for them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILE = ROOT / "tests" / "typing" / "submission.py"
EXPECTED = re.compile(r"  # (?P<code>[a-z]+-[a-z]+)$")
FOUND = re.compile(r"submission\.py:(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$", re.MULTILINE)
FOLLOWS = {"untyped-decorator"}
"""Said of what a wrong decorator decorates."""


def test_wrong_submissions_are_found_by_the_type_checker_and_right_ones_pass() -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(FILE)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False).stdout
    lines = FILE.read_text(encoding="utf-8").splitlines()
    expected = {
        (number, found["code"]) for number, line in enumerate(lines, 1) if (found := EXPECTED.search(line)) is not None
    }
    reported = {(int(f["line"]), f["code"]) for f in FOUND.finditer(said) if f["code"] not in FOLLOWS}
    assert len(expected) > 10
    assert reported == expected, said
