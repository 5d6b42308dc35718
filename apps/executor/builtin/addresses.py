"""Which addresses `http.request` may connect to.

Metadata services and link-local addresses are never allowed: a job's author must not read the credentials of the
machine that it runs on. The address that was checked is the one connected to, so a name that resolves differently the
second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore

from apps.executor.builtin.errors import TaskFailed

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
    """Raise TaskFailed for an address that must not be connected to."""
    real = embedded_address(address)
    if any(real.version == net.version and real in net for net in REFUSED):
        raise TaskFailed("AddressRefused", f"{real} is a link-local or metadata address", retryable=False)
    if refuse_private and not real.is_global:
        raise TaskFailed("AddressRefused", f"{real} is not a public address", retryable=False)


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
            raise TaskFailed("AddressRefused", f"{host} is a metadata service", retryable=False)
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
        raise TaskFailed("AddressRefused", "unix sockets are not for jobs", retryable=False)

    async def sleep(self, seconds: float) -> None:
        """As the real one."""
        await self._backend.sleep(seconds)
