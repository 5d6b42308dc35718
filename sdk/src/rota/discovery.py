"""Where the store is and which token it wants, when the program does not say.

`ROTA_URL` decides. Without it, a `rota up` that runs in the current folder (or in ROTA_DATA_DIR) is found by the state
file that it keeps there; without one, the store is taken to be on this machine at ROTA_PORT (3000).
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Optional

STATE_FILE = "up.json"
STATE_BYTES = 1_000_000
"""A state file longer than this is not one of ours."""


def default_url() -> str:
    """Return the store's URL: ROTA_URL, that of a running `rota up`, or http://127.0.0.1 with ROTA_PORT or 3000."""
    found = os.environ.get("ROTA_URL") or url_of_running(os.environ.get("ROTA_DATA_DIR") or ".rota")
    return found or f"http://127.0.0.1:{os.environ.get('ROTA_PORT', '3000')}"


def default_token() -> Optional[str]:
    """Return ROTA_TOKEN, or what the file that ROTA_TOKEN_FILE names holds; None without either.

    Raises:
        OSError: the file cannot be read.
    """
    token = os.environ.get("ROTA_TOKEN")
    path = os.environ.get("ROTA_TOKEN_FILE")
    if token or not path:
        return token or None
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the package keeps its imports few
        return file.read().strip() or None


def url_of_running(data_dir: str) -> Optional[str]:
    """Return the URL of the `rota up` that keeps its data in `data_dir`; None when none runs.

    A file of another user is not believed: whoever can leave one in the current folder must not receive our tokens.
    """
    if os.name != "posix":
        return None
    state: Dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(data_dir, STATE_FILE), "rb") as file:  # noqa: PTH118, PTH123 - as above
            if os.fstat(file.fileno()).st_uid not in (os.geteuid(), 0):
                return None
            found = json.loads(file.read(STATE_BYTES))
        state = found if isinstance(found, dict) else {}
    url, supervisor = state.get("url"), state.get("supervisor")
    if isinstance(url, str) and isinstance(supervisor, int) and _alive(supervisor):
        return url
    return None


def _alive(pid: int) -> bool:
    if pid <= 0:  # a group of processes, not one
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it is there and belongs to somebody else
    except (OSError, OverflowError):
        return False
    return True
