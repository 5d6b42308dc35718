"""Which addresses Rota connects to on somebody's behalf: for `http.request` and for webhooks.

Metadata services and link-local addresses are never allowed: who names a URL must not read the credentials of the
machine that asks it. The address that was checked is the one connected to, so a name that resolves differently the
second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore
import httpx

if find_spec("sniffio") is None:
    # httpcore tries to import it several times a request, and searching all of the path for it costs more than the rest
    # of the request. None makes Python remember that it is not there.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

Address = IPv4Address | IPv6Address

REFUSED_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
REFUSED = tuple(
    ip_network(net)
    for net in (
        "0.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "224.0.0.0/4",
        "255.255.255.255/32", "::/128", "fe80::/10", "fd00:ec2::254/128", "ff00::/8",
    )
)  # fmt: skip
NAT64 = ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """The URL leads to an address that must not be connected to, and always will."""


def embedded_address(address: Address) -> Address:
    """The IPv4 address that an IPv6 form stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def check_address(address: Address, *, refuse_private: bool) -> None:
    """Raise AddressRefused for an address that must not be connected to."""
    real = embedded_address(address)
    if any(real.version == net.version and real in net for net in REFUSED):
        raise AddressRefused(f"{real} is a link-local or metadata address")
    if refuse_private and not real.is_global:
        raise AddressRefused(f"{real} is not a public address")


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves names itself, checks every address and connects to a checked one."""

    def __init__(self, *, refuse_private: bool) -> None:
        self._refuse_private = refuse_private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of the host that answers, all of them being allowed."""
        if host.rstrip(".").lower() in REFUSED_NAMES:
            raise AddressRefused(f"{host} is a metadata service")
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can not be resolved: {error}") from error
        addresses = [str(info[4][0]) for info in found]
        for address in addresses:
            check_address(ip_address(address.split("%")[0]), refuse_private=self._refuse_private)
        failure: Exception | None = None
        for address in dict.fromkeys(addresses):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise AddressRefused("unix sockets are not to be asked")

    async def sleep(self, seconds: float) -> None:
        """As the real one."""
        await self._backend.sleep(seconds)


def checked_pool(*, refuse_private: bool, max_connections: int) -> httpcore.AsyncConnectionPool:
    """Kept connections to checked addresses. Knows no proxy and no settings of the machine's."""
    return httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=False),
        max_connections=max_connections,
        max_keepalive_connections=20,
        keepalive_expiry=10.0,
        network_backend=CheckedBackend(refuse_private=refuse_private),
    )
