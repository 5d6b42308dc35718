"""The account under which tasks run: the executor's own, or another one where the executor is root.

Root's processes can read each other's memory, and so the executor's passwords. Another account's cannot.
"""

from __future__ import annotations

import logging
import os
import pwd
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rota_server.adapters.embedded.process import can_reach
from rota_server.domain.errors import WrongSetting

log = logging.getLogger("rota.executor")


@dataclass(frozen=True, slots=True)
class TaskAccount:
    """`identity` for whoever starts a process (empty: the executor's own), `environment` that goes with it."""

    identity: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


OWN = TaskAccount()


def warn_of_root(name: str | None) -> None:
    """Say that tasks are not kept from this process's secrets, where that is so and could be otherwise."""
    if name is None and os.geteuid() == 0:
        log.warning("tasks run as root and can read this executor's passwords: set ROTA_TASK_USER")


def task_account(name: str | None, interpreter: str | None = None) -> TaskAccount:
    """The account of this name, which must be able to reach the interpreters.

    Raises:
        WrongSetting: there is no such account, this process may not become it, or it could start nothing.
    """
    if name is None:
        return OWN
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise WrongSetting(f"ROTA_TASK_USER: there is no account {name}") from None
    if account.pw_uid == os.geteuid():
        return OWN
    if os.geteuid() != 0:
        raise WrongSetting("ROTA_TASK_USER: only an executor that is root can run tasks under another account")
    for needed in (Path(sys.executable), Path(interpreter or sys.executable), Path(__file__)):
        if not can_reach(needed.resolve(), account) or not can_reach(needed, account):
            raise WrongSetting(f"ROTA_TASK_USER: {name} cannot reach {needed}; install Rota where every account can")
    return TaskAccount(
        {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(name, account.pw_gid)},
        {"HOME": account.pw_dir, "USER": name, "LOGNAME": name},
    )
