"""Looking for known vulnerabilities never passes silently where nobody could be asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.advisories import KNOWN, NOT_CHECKED, main

SAFE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "version": "3", "skip_reason": "not found"}


def audit(*reports: list[dict[str, Any]] | None) -> int:
    """The exit status when the sources answer so, one after the other."""
    left = list(reports)

    def run(command: Sequence[str], seconds: float) -> str:
        assert seconds > 0
        report = left.pop(0)
        return "" if report is None else json.dumps({"dependencies": report, "fixes": []})

    return main("pip-audit", ["requirements.lock"], run)


def test_what_is_known_fails_and_is_named(capsys: pytest.CaptureFixture[str]):
    assert audit([SAFE, BAD]) == KNOWN
    assert "b 2: X-1, mended in 2.1" in capsys.readouterr().out


def test_nothing_known_passes_and_says_how_much_was_asked_about(capsys: pytest.CaptureFixture[str]):
    assert audit([SAFE, UNKNOWN]) == 0
    said = capsys.readouterr()
    assert "1 packages asked about" in said.out
    assert "says nothing about c" in said.err


@pytest.mark.parametrize("reports", [(None, None), ([UNKNOWN], [UNKNOWN]), ([UNKNOWN], None), ([], [])])
def test_where_nobody_answers_it_is_no_pass(reports: Any, capsys: pytest.CaptureFixture[str]):
    assert audit(*reports) == NOT_CHECKED
    assert "NOT CHECKED" in capsys.readouterr().err


def test_a_second_source_is_asked_where_the_first_says_nothing():
    assert audit([UNKNOWN], [BAD]) == KNOWN
