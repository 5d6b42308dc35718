"""Keeps a service's secrets from the processes that it starts, and from others of its account.

What stood in the environment when a process was started can be read in `/proc/<pid>/environ` for as long as it lives,
whatever it does with its own copy. So a service removes the secrets from there as soon as it has read them, and asks
the kernel to let nobody of its account look into it (root still may).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from rota_server.apps.settings import PREFIX, SECRET_FIELDS, Settings

PR_SET_DUMPABLE = 4
LIBPQ_PASSWORD = "PGPASSWORD"  # noqa: S105 - a name

_NAMES = re.compile(
    "|".join([*(f"{PREFIX}{name.upper()}" for name in SECRET_FIELDS), LIBPQ_PASSWORD, f"{PREFIX}SECRET_[A-Z0-9_]+"])
)


def withdraw_secrets(settings: Settings) -> Settings:
    """Take the secrets out of this process's environment; answers the settings with what was found only there.

    Those that jobs name (`ROTA_SECRET_...`) stay in `os.environ` for the one who takes them, and nowhere else.
    """
    password = os.environ.get(LIBPQ_PASSWORD)
    if password is not None:
        settings = settings.with_password(password)
    for name in list(os.environ):
        if _NAMES.fullmatch(name) and not name.startswith(f"{PREFIX}SECRET_"):
            del os.environ[name]
    if sys.platform == "linux":
        _wipe_start_environment()
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return settings


def secrets_among(environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of an environment, for a process that has to have them itself."""
    return {name: value for name, value in environment.items() if _NAMES.fullmatch(name)}


def _wipe_start_environment() -> None:
    """Overwrite the values where the kernel has put them, which is what /proc shows. Python has copies of its own."""
    # Python's copy of the names that libc knows must not point to what is overwritten: `del` above has removed those,
    # and what stays (ROTA_SECRET_...) is set again, which gives it memory of its own.
    for name, value in os.environ.items():
        if _NAMES.fullmatch(name):
            os.environ[name] = value
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if not 0 < start < end:
        return
    block = ctypes.string_at(start, end - start)
    at = 0
    for entry in block.split(b"\0"):
        key, _, secret = entry.partition(b"=")
        if secret and _NAMES.fullmatch(key.decode(errors="replace")):
            ctypes.memset(start + at + len(key) + 1, 0, len(secret))
        at += len(entry) + 1
