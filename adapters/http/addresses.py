"""Which addresses Rota connects to on somebody's behalf: for `http.request` and for webhooks.

Metadata services and link-local addresses are never allowed: who names a URL must not read the credentials of the
machine that asks it. The address that was checked is the one connected to, so a name that resolves differently the
second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore
import httpx

from rota_server.adapters.http.embedded_addresses import Address, meant
from rota_server.domain.urls import ipv4_meant

if find_spec("sniffio") is None:
    # httpcore tries to import it several times a request, and searching all of the path for it costs more than the rest
    # of the request. None makes Python remember that it is not there.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

REFUSED_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
REFUSED = tuple(
    ip_network(net)
    for net in (
        "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "::/128", "fe80::/10", "ff00::/8",
        "168.63.129.16/32",  # Azure
        "100.100.100.200/32", "fd00:100::100:200/128",  # Alibaba Cloud
        "192.0.0.192/32", "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud
        "fd00:ec2::/32",  # AWS: instance metadata (254), EKS pod identity (23), DNS and time beside them
        "fd20:ce::254/128",  # Google Cloud
        "fd00:42::42/128",  # Scaleway
        "fd00:a9fe:a9fe::1/128",  # Akamai
    )
)  # fmt: skip
NOT_PUBLIC = tuple(ip_network(net) for net in ("fec0::/10", "3fff::/20", "5f00::/16"))
"""What Python 3.11 takes for global and is not: site-local, documentation, segment routing."""


class AddressRefused(Exception):
    """The URL leads to an address that must not be connected to, and always will."""


def check_address(address: Address, *, refuse_private: bool) -> None:
    """Raise AddressRefused for an address that must not be connected to, by itself or for what it embeds."""
    found = meant(address)
    for one in (address, *found.embedded):
        if any(one.version == net.version and one in net for net in REFUSED):
            raise AddressRefused(f"{one} is a link-local or metadata address")
    for one in found.destinations:
        if refuse_private and not _is_public(one):
            raise AddressRefused(f"{one} is not a public address")


def check_host(host: str, *, refuse_private: bool) -> None:
    """Raise AddressRefused when it is plain, without asking anybody, that this host must not be connected to."""
    if host.rstrip(".").lower() in REFUSED_NAMES:
        raise AddressRefused(f"{host} is a metadata service")
    address: Address | None = ipv4_meant(host)
    with suppress(ValueError):
        address = address or ip_address(host.partition("%")[0])
    if address is not None:
        check_address(address, refuse_private=refuse_private)


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address.version == net.version and address in net for net in NOT_PUBLIC)


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
        check_host(host, refuse_private=self._refuse_private)
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = [str(info[4][0]) for info in found]
        for address in addresses:
            check_address(ip_address(address.partition("%")[0]), refuse_private=self._refuse_private)
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


@cache
def _trusted() -> ssl.SSLContext:
    """Reading the certificates takes a tenth of a second."""
    return httpx.create_ssl_context(trust_env=False)


def checked_pool(*, refuse_private: bool, max_connections: int | None) -> httpcore.AsyncConnectionPool:
    """Kept connections to checked addresses. Knows no proxy and no settings of the machine's."""
    return httpcore.AsyncConnectionPool(
        ssl_context=_trusted(),
        max_connections=max_connections,
        max_keepalive_connections=20,
        keepalive_expiry=10.0,
        network_backend=CheckedBackend(refuse_private=refuse_private),
    )
