"""Under which names a store without tokens answers, and to which pages.

Against DNS rebinding: a page of another site can make its own name point here, but a browser sends that name.
Against forged requests: whatever a page of another site has a browser send carries that page's origin.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from rota_server.domain.errors import Rejected

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY = "*"


class Hosts:
    """The names of one store: loopback's and `allowed`; beyond loopback its addresses and the machine's name too."""

    def __init__(self, allowed: Iterable[str], *, loopback_only: bool) -> None:
        self._loopback_only = loopback_only
        self._names = LOOPBACK_NAMES | {name.strip().strip("[]").lower() for name in allowed}
        if not loopback_only:
            self._names |= {socket.gethostname().lower()}

    def refuse_foreign(self, method: str, host: str, origin: str | None) -> None:
        """Raise Rejected when the request was meant for another name, or is to change something for another page."""
        if not self._allows(_name(host)):
            message = f"Host: this store does not answer as {host[:100]!r}; ROTA_ALLOWED_HOSTS names further hosts"
            raise Rejected(message, field="Host", code="forbidden")
        if origin is not None and method not in SAFE_METHODS and urlsplit(origin).netloc.lower() != host.lower():
            message = "Origin: requests that change something are refused from other sites' pages"
            raise Rejected(message, field="Origin", code="forbidden")

    def _allows(self, name: str | None) -> bool:
        if name is None:
            return False
        # An address was looked up by nobody: nothing can have been rebound.
        return name in self._names or ANY in self._names or (not self._loopback_only and _is_address(name))


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
