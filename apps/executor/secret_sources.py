"""Where an executor finds the secrets that jobs name: its environment, files, a command.

Values are asked for when an attempt begins and kept for no longer; what came with the environment is moved out of it at
the start, so that no task inherits it. Says which secret is missing, and never a value, a path's content or a command's
output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rota_server.apps.executor.masking import LEAST_CHARS

PREFIX = "ROTA_SECRET_"
FILE = "_FILE"
VALUE_LIMIT_BYTES = 64 * 1024
COMMAND_SECONDS = 10.0
LAST_SECONDS = 1.0
COMMANDS_AT_ONCE = 8


class NoSecret(Exception):
    """The secret cannot be had: `kind` is the error's type. `retryable`: it may be there later, or elsewhere."""

    def __init__(self, kind: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Grant:
    """Jobs of these tasks on these queues may use this secret; each is a pattern as of file names."""

    secret: str
    task: str
    queue: str = "*"


def parse_grants(words: Iterable[str]) -> tuple[Grant, ...]:
    """Grants from `SECRET:TASK` or `SECRET:TASK@QUEUE`. Raises ValueError."""
    grants = []
    for word in words:
        secret, colon, rest = word.partition(":")
        task, at, queue = rest.partition("@")
        if not (secret and colon and task) or (at and not queue):
            raise ValueError(f"{word!r} must be SECRET:TASK or SECRET:TASK@QUEUE, such as billing-token:http.request")
        grants.append(Grant(secret, task, queue or "*"))
    return tuple(grants)


def taken_from(environment: MutableMapping[str, str]) -> dict[str, str]:
    """The secrets in the environment, which no longer has them."""
    return {name: environment.pop(name) for name in list(environment) if name.startswith(PREFIX)}


class SecretSources:
    """Looks at `ROTA_SECRET_NAME`, then the file that `ROTA_SECRET_NAME_FILE` names, the directory, the command."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        directory: Path | None = None,
        command: str | None = None,
        grants: Sequence[Grant] = (),
    ) -> None:
        self._environment = environment
        self._directory = directory
        self._command = shlex.split(command) if command else []
        self._grants = grants
        self._turns = asyncio.Semaphore(COMMANDS_AT_ONCE)

    async def values(self, names: Iterable[str], *, task: str, queue: str) -> dict[str, str]:
        """The secrets with these names, for a job of this task on this queue. Raises NoSecret."""
        wanted = sorted(set(names))
        for name in wanted:
            self._check_granted(name, task, queue)
        found = await asyncio.gather(*(self._value(name) for name in wanted))
        return dict(zip(wanted, found, strict=True))

    def _check_granted(self, name: str, task: str, queue: str) -> None:
        if not self._grants:
            return
        granted = any(
            fnmatchcase(name, grant.secret) and fnmatchcase(task, grant.task) and fnmatchcase(queue, grant.queue)
            for grant in self._grants
        )
        if not granted:
            message = f"{task} on queue {queue} may not use the secret {name} (ROTA_SECRETS_ALLOW)"
            raise NoSecret("SecretNotAllowed", message, retryable=False)

    async def _value(self, name: str) -> str:
        content = self._of_environment(name)
        if content is None and self._directory is not None:
            content = _read(self._directory / name, name)
        if content is None and self._command:
            async with self._turns:
                content = await _ask(self._command, name)
        if content is None:
            message = (
                f"this executor has no secret {name} ({variable_of(name)}, ROTA_SECRETS_DIR, ROTA_SECRETS_COMMAND)"
            )
            raise NoSecret("UnknownSecret", message)
        return _usable(content, name)

    def _of_environment(self, name: str) -> bytes | None:
        variable = variable_of(name)
        if variable in self._environment:
            return self._environment[variable].encode(errors="surrogateescape")
        path = self._environment.get(variable + FILE)
        if path is None:
            return None
        content = _read(Path(path), name)
        if content is None:
            raise NoSecret("SecretUnavailable", f"the file that {variable}{FILE} names is not there")
        return content


def variable_of(name: str) -> str:
    """The environment variable of a secret."""
    return PREFIX + re.sub(r"[.-]", "_", name).upper()


def _usable(content: bytes, name: str) -> str:
    """The secret as text, without the line's end that files end with. Raises NoSecret."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise NoSecret("SecretUnusable", f"the secret {name} is no UTF-8 text", retryable=False) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if len(content) > VALUE_LIMIT_BYTES or "\x00" in text:
        message = f"the secret {name} has more than {VALUE_LIMIT_BYTES} bytes, or a NUL"
        raise NoSecret("SecretUnusable", message, retryable=False)
    if len(text.strip()) < LEAST_CHARS:
        message = f"the secret {name} has fewer than {LEAST_CHARS} characters: it could not be kept out of logs"
        raise NoSecret("SecretUnusable", message, retryable=False)
    return text


def _read(path: Path, name: str) -> bytes | None:
    """The file's content; None when there is none. Raises NoSecret."""
    try:
        with path.open("rb") as file:
            return file.read(VALUE_LIMIT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"the file of the secret {name} cannot be read: {error.strerror}"
        raise NoSecret("SecretUnavailable", message) from None


async def _ask(command: Sequence[str], name: str) -> bytes:
    """What the command prints for the secret. Raises NoSecret."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise NoSecret("SecretUnavailable", f"ROTA_SECRETS_COMMAND cannot be run: {error.strerror}") from None
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            content = await _all(process.stdout)
            if len(content) > VALUE_LIMIT_BYTES:
                return content  # which is refused
            status = await process.wait()
    except TimeoutError:
        message = f"ROTA_SECRETS_COMMAND did not answer within {COMMAND_SECONDS:g} s for the secret {name}"
        raise NoSecret("SecretUnavailable", message) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
                os.killpg(process.pid, signal.SIGKILL)
                async with asyncio.timeout(LAST_SECONDS):
                    await process.wait()
    if status != 0:
        raise NoSecret("SecretUnavailable", f"ROTA_SECRETS_COMMAND ended with {status} for the secret {name}")
    return content


async def _all(stream: asyncio.StreamReader) -> bytes:
    """All of the output, and a little more than the limit at most."""
    content = b""
    while len(content) <= VALUE_LIMIT_BYTES and (part := await stream.read(8192)):
        content += part
    return content
