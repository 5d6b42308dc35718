"""Which client `Task.submit` uses: that of the innermost `with` block, else the configured one, else a default one."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional

if TYPE_CHECKING:
    from rota.async_client import AsyncClient
    from rota.client import Client

_within: "contextvars.ContextVar[Optional[Client]]" = contextvars.ContextVar("rota_client", default=None)
_within_async: "contextvars.ContextVar[Optional[AsyncClient]]" = contextvars.ContextVar(
    "rota_async_client", default=None
)
_lock = threading.Lock()
_settings: "Dict[str, Any]" = {}
_made: "Dict[str, Any]" = {}


def configure(
    url: Optional[str] = None, *, token: Optional[str] = None, timeout: float = 30.0, patience: float = 10.0
) -> None:
    """Say which store `Task.submit` and `Task.asubmit` speak to outside of `with Client(...)`; as `Client` takes it.

    Once for the process, where it starts. Without it they use ROTA_URL and ROTA_TOKEN, as `Client()` does.
    """
    with _lock:
        _settings.update(url=url, token=token, timeout=timeout, patience=patience)
        # A call that another thread is in the middle of goes on: only connections that are not in use are closed.
        while _made:
            client = _made.popitem()[1]
            getattr(client, "_client", client).close()


def current_client() -> "Client":
    """The client of the `with` block around the caller, else the process's own."""
    from rota.client import Client  # noqa: PLC0415 - it needs the tasks, and these need this module

    return _within.get() or _own("client", Client)


def current_async_client() -> "AsyncClient":
    """The client of the `async with` block around the caller, else the process's own."""
    from rota.async_client import AsyncClient  # noqa: PLC0415 - as above

    return _within_async.get() or _own("async", AsyncClient)


def enter(client: "Client") -> "contextvars.Token[Optional[Client]]":
    """Make it the current one in this context."""
    return _within.set(client)


def enter_async(client: "AsyncClient") -> "contextvars.Token[Optional[AsyncClient]]":
    """Make it the current one in this context."""
    return _within_async.set(client)


def leave(token: "Optional[contextvars.Token[Any]]") -> None:
    """Make the one before current again; nothing, in another context than the one that was entered."""
    if token is not None:
        try:
            token.var.reset(token)
        except ValueError:
            return


def _own(kind: str, make: Any) -> Any:
    with _lock:
        if kind not in _made:
            _made[kind] = make(**_settings)
        return _made[kind]
