"""Finds what looks like a secret in plain arguments, to warn of it: the log shows it to every reader, forever. Pure.

A guess by names and forms. Linear in the size of the arguments, and no reason to refuse anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rota_server.domain.jobs.secret_references import MARK
from rota_server.domain.urls import has_userinfo

FOUND_LIMIT = 10
PARTS_LIMIT = 2_000
"""Values of a request that are looked at; of longer texts and names only the beginning is."""

CHARS_LIMIT = 200_000
TEXT_LIMIT_CHARS = 4_096
NAME_LIMIT_CHARS = 100

_NAMES = re.compile(
    r"(?:^|[-_.])(?:authorization|password|passwd|passphrase|secret|token|api[-_]?key|apikey|access[-_]?key|"
    r"private[-_]?key|client[-_]?secret|credentials?|cookie)$",
    re.IGNORECASE,
)
_FORMS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[opsur]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22}"
    r"|\bglpat-[A-Za-z0-9_-]{20}"
    r"|\bxox[abeprs]-[A-Za-z0-9-]{10}"
    r"|\b[rs]k_live_[A-Za-z0-9]{16}"
    r"|\bAIza[A-Za-z0-9_-]{35}"
    r"|\bwhsec_[A-Za-z0-9+/]{32}"
    r"|\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]"  # JSON web tokens
    r"|-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY-----"
    r"|^(?:Bearer|Basic|Token) [A-Za-z0-9+/=._~-]{8}"
)
_WITHOUT_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def plain_secrets(request: Any) -> list[str]:
    """Where something looks like a secret within the arguments of a request's jobs, at most so many places.

    `request`: a job, or whatever holds jobs: what stands under `args` is looked at.
    """
    looked = _Looked()
    _find_args(request, "", looked)
    return looked.found


class _Looked:
    """What was found, and how much there is still to look at."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.left = PARTS_LIMIT
        self.left_chars = CHARS_LIMIT

    @property
    def enough(self) -> bool:
        return self.left <= 0 or self.left_chars <= 0 or len(self.found) == FOUND_LIMIT


def _find_args(value: Any, place: str, looked: _Looked) -> None:
    for name, part in _parts(value):
        looked.left -= 1
        if looked.enough:
            return
        inner = f"{place}.{name}" if place else name
        if name == "args" and isinstance(value, Mapping):
            _find(part, inner, name, looked)
        else:
            _find_args(part, inner, looked)


def _find(value: Any, place: str, name: str, looked: _Looked) -> None:
    looked.left -= 1
    if looked.enough:
        return
    if isinstance(value, str):
        looked.left_chars -= len(value[:TEXT_LIMIT_CHARS])
        if _looks_secret(name[:NAME_LIMIT_CHARS], value[:TEXT_LIMIT_CHARS]):
            looked.found.append(place)
        return
    if isinstance(value, Mapping) and MARK in value:
        return
    for key, part in _parts(value):
        # An item of a list is called what the list is called.
        _find(part, f"{place}.{key[:NAME_LIMIT_CHARS]}", key if isinstance(value, Mapping) else name, looked)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield str(index), part


def _looks_secret(name: str, text: str) -> bool:
    if len(text) < 4 or "${" in text:  # a place that an event fills
        return False
    if _NAMES.search(name) or _NAMES.search(_WITHOUT_CAPITALS.sub("-", name)):
        return True
    if "://" in text and has_userinfo(text) and ":" in text.partition("://")[2].partition("@")[0]:
        return True
    return _FORMS.search(text) is not None
