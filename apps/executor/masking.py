"""Keeps secrets out of what an attempt leaves behind: output, errors, results, progress.

A secret is found as it is and in the forms that programs usually give it: quoted for JSON, Python and URLs, in base64
wherever it begins, and line by line. Whoever encrypts, reverses or splits it by hand is not found.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote, quote_plus

from rota_server.apps.executor.attempts import Attempt, AttemptSink, Cancelled, Failed, Lost, Outcome, Succeeded

MASK = "***"
LEAST_CHARS = 4
"""A shorter secret cannot be masked without masking everything, and is not given to anybody."""

LINGER_SECONDS = 60.0
"""How long after an attempt its secrets are still looked for."""

LINE_LEAST_CHARS = 8
BASE64_LEAST_CHARS = 8


class Masker:
    """Replaces these secrets in text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))
        self._beginnings = frozenset(form[0] for form in self._forms)
        self._longest = max(map(len, self._forms), default=0)

    def text(self, text: str) -> str:
        """The text without them."""
        return self._pattern.sub(MASK, text)

    def value(self, value: Any) -> Any:
        """The JSON value without them, also in the names of members."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(name): self.value(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(part) for part in value]
        return value

    def outcome(self, outcome: Outcome) -> Outcome:
        """The outcome without them."""
        match outcome:
            case Succeeded(result):
                return Succeeded(self.value(result))
            case Failed(kind, message, trace, retryable, again):
                trace = None if trace is None else self.text(trace)
                trace = None if trace is None else self.text(trace)
                return Failed(self.text(kind), self.text(message), trace, retryable, again)
            case Lost(reason):
                return Lost(self.text(reason))
            case Cancelled():
                return outcome

    def split(self, text: str) -> tuple[str, str]:
        """The masked beginning, and the rest as it is: it may be the beginning of a secret that goes on."""
        cut = self._unfinished(text)
        for found in self._pattern.finditer(text):
            if found.end() > cut:
                cut = min(cut, found.start())
                break
        return self.text(text[:cut]), text[cut:]

    def _unfinished(self, text: str) -> int:
        """Where the first end of the text begins that a form begins with, without being whole."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] not in self._beginnings:
                continue
            end = text[at:]
            if any(len(form) > len(end) and form.startswith(end) for form in self._forms):
                return at
        return len(text)


class MaskingSink:
    """The AttemptSink of one attempt that has secrets. Holds back what may be the beginning of one, until it is not."""

    def __init__(self, sink: AttemptSink, masker: Masker, attempt: Attempt) -> None:
        self._sink = sink
        self._masker = masker
        self._attempt = attempt
        self._held: dict[Literal["stdout", "stderr"], str] = {"stdout": "", "stderr": ""}

    def output(self, attempt: Attempt, stream: Literal["stdout", "stderr"], text: str) -> None:
        """See AttemptSink."""
        said, self._held[stream] = self._masker.split(self._held[stream] + text)
        if said:
            self._sink.output(attempt, stream, said)

    def progress(self, attempt: Attempt, fraction: float | None, message: str | None) -> None:
        """See AttemptSink."""
        self._sink.progress(attempt, fraction, None if message is None else self._masker.text(message))

    def finish(self) -> None:
        """Pass on what was held back: nothing comes after it."""
        for stream, text in self._held.items():
            if text:
                self._sink.output(self._attempt, stream, self._masker.text(text))
                self._held[stream] = ""


class SecretsInUse:
    """The secrets of all attempts that run here, and of those that ended a moment ago.

    What a task process prints when several attempts run in it, or as it dies, is nobody's own.
    """

    def __init__(self) -> None:
        self._used: dict[Masker, float | None] = {}

    def begin(self, masker: Masker) -> None:
        """An attempt has these secrets now."""
        self._used[masker] = None

    def end(self, masker: Masker) -> None:
        """It is over; what is still on its way may hold them."""
        now = time.monotonic()
        self._used[masker] = now
        self._used = {one: at for one, at in self._used.items() if at is None or now - at < LINGER_SECONDS}

    def text(self, text: str) -> str:
        """The text without any of them."""
        for masker in self._used:
            text = masker.text(text)
        return text

    def outcome(self, outcome: Outcome) -> Outcome:
        """The outcome without any of them."""
        for masker in self._used:
            outcome = masker.outcome(outcome)
        return outcome


class SecretFilter(logging.Filter):
    """Keeps secrets in use out of this process's own log."""

    def __init__(self, secrets: SecretsInUse) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record, which is always let through."""
        record.msg, record.args = self._secrets.text(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self._secrets.text(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def _forms(secret: str) -> Iterator[str]:
    """The secret as programs write it."""
    yield secret
    yield secret.strip()
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield from (line.strip() for line in secret.splitlines() if len(line.strip()) >= LINE_LEAST_CHARS)
    for text in _in_base64(secret.encode()):
        if len(text) >= BASE64_LEAST_CHARS:
            yield text
            yield text.replace("+", "-").replace("/", "_")


def _in_base64(secret: bytes) -> Iterator[str]:
    """What of it is the same in base64 whatever stands before and after it."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret).decode()
        first = (0, 2, 3)[before]  # characters that bits of what stands before are part of
        last = len(text) - (0, 3, 2)[(before + len(secret)) % 3]
        yield text[first:last]
