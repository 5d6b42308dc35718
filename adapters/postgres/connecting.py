"""Opens connections to PostgreSQL: the one place that knows how, for the pool, for lasting connections and migrations.

Hosts are tried one after the other, each within its own time, the one that worked last first: after a failover, and
while a host is frozen, the next connection finds the server that takes writes. A session's settings are made after
connecting, not in the start-up packet, since connection poolers refuse most of those.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import asyncpg

from rota_server.adapters.postgres.address import FILES, PostgresAddress
from rota_server.domain.errors import Refused, Unavailable, WrongSetting

CONNECT_SECONDS = 5.0
CONNECT_SECONDS_A_HOST = 1.5
"""With several hosts: who needs a connection waits two seconds for a heartbeat's, and one host may be frozen."""

COMMAND_SECONDS = 30.0
SESSION = {"jit": "off", "search_path": "public, pg_temp"}
"""Settings of every session; those of a service (`sessions.py`) and `options` of the address go before them. The search
path is set, since whoever has our role's password could change what it begins with."""

REFUSED_STATES = ("28", "3D", "42704", "22023")
"""A wrong password, role or database, or a setting in `options` that the server does not know."""

CLOSE_SECONDS = 3.0
"""How long a connection that is closed has to say goodbye, and to get the cancellation of its statement out."""

ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class _Silence:
    """When a server last let a goodbye wait for too long."""

    def __init__(self) -> None:
        self.met_at = float("-inf")


class BoundedConnection(asyncpg.Connection):  # type: ignore[misc] # it has no types
    """A connection that is closed in bounded time, also while its server is frozen or cut off.

    The driver would wait a command's time for each of a pool's connections, one after the other: a service that was
    told to stop would be killed for it.
    """

    silence: _Silence

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the driver's signature
        """Say goodbye, or drop the connection where the server takes too long for that. Raises no TimeoutError."""
        now = asyncio.get_running_loop().time
        if now() < self.silence.met_at + CLOSE_SECONDS:
            self.terminate()  # another one of this server's has just waited in vain
            return
        try:
            await super().close(timeout=CLOSE_SECONDS if timeout is None else timeout)
        except TimeoutError:
            self.silence.met_at = now()


class Connector:
    """Opens connections to one address under one application name."""

    def __init__(
        self,
        address: PostgresAddress,
        *,
        application: str = "rota",
        session: Mapping[str, str] | None = None,
        command_seconds: float | None = COMMAND_SECONDS,
    ) -> None:
        """Raises WrongSetting when a file that the address names cannot be read."""
        self.address = address
        self.application = address.application or application
        self.settings: Mapping[str, str] = {**SESSION, **(session or {}), **address.settings}
        """Of each session; through a pooler that keeps none, of each transaction."""

        self._command_seconds = command_seconds
        self._first = 0
        self._silence = _Silence()
        _check_files(address)

    async def connect(self) -> asyncpg.Connection[Any]:
        """A new connection, its session's settings made; the caller closes it.

        Raises:
            Unavailable: no host takes it now.
            Refused: the server does not want us (password, role, database, certificate).
        """
        return await self._connect(_setting(self.settings))

    async def connect_bare(self) -> asyncpg.Connection[Any]:
        """A new connection that leaves neither settings nor prepared statements in its session.

        A pooler may give the session to others. Raises as `connect` does.
        """
        return await self._connect(None)

    async def _connect(self, settings: str | None) -> asyncpg.Connection[Any]:
        """Try the hosts one after the other.

        Raises:
            Unavailable: no host takes it now.
            Refused: the server does not want us (password, role, database, certificate).
        """
        hosts = self._hosts()
        failures: list[tuple[str, BaseException]] = []
        for place, host in hosts:
            try:
                with self._unless_it_works(place):
                    return await self._open(host, settings, alone=len(hosts) == 1)
            except ERRORS as error:
                if not _may_work_elsewhere(error):
                    raise _refused(error, self.address) from error
                failures.append(("" if host is None else f"{host[0]}:{host[1]} ", error))
        told = "; ".join(f"{place}{_brief(error)}" for place, error in failures)
        raise Unavailable(f"PostgreSQL does not answer ({told})", server="postgres") from failures[-1][1]

    def _hosts(self) -> list[tuple[int, tuple[str, int] | None]]:
        hosts = list(enumerate(self.address.hosts))
        if not hosts:
            return [(0, None)]
        if self.address.random_order:
            random.shuffle(hosts)
            return [*hosts]
        return [*hosts[self._first :], *hosts[: self._first]]

    @contextmanager
    def _unless_it_works(self, place: int) -> Iterator[None]:
        """Begin with the host that worked; after a failure, or when nobody waits any longer, with the next one."""
        try:
            yield
        except BaseException:
            self._first = (place + 1) % max(1, len(self.address.hosts))
            raise
        self._first = place

    async def _open(
        self, host: tuple[str, int] | None, settings: str | None, *, alone: bool
    ) -> asyncpg.Connection[Any]:
        seconds = self.address.connect_seconds or (CONNECT_SECONDS if alone else CONNECT_SECONDS_A_HOST)
        async with asyncio.timeout(seconds):
            connection: BoundedConnection = await asyncpg.connect(
                connection_class=BoundedConnection,
                **_arguments(self.address, host, bare=settings is None),
                timeout=seconds,
                command_timeout=self._command_seconds,
                server_settings={"application_name": self.application},
            )
            connection.silence = self._silence
            try:
                if settings is not None:
                    await connection.execute(settings)
            except BaseException:
                connection.terminate()
                raise
        _keep_alive(connection, self.address.keepalives)
        return connection


def _check_files(address: PostgresAddress) -> None:
    for name in FILES:
        path = address.driver.get(name)
        if path is None or (name == "sslrootcert" and path == "system"):
            continue
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise WrongSetting(f"{name}={path}: {error.strerror}") from error


def _arguments(address: PostgresAddress, host: tuple[str, int] | None, *, bare: bool) -> dict[str, Any]:
    """The address as the driver's arguments, for one of its hosts."""
    driver = dict(address.driver)
    found: dict[str, Any] = {
        "user": address.user,
        "password": address.password,
        "database": address.database,
        "target_session_attrs": address.target,
    }
    if driver.get("sslrootcert") == "system":
        # The certificates that this machine trusts; the driver would look for a file of that name.
        context = ssl.create_default_context()
        if "sslcert" in driver:
            context.load_cert_chain(driver.pop("sslcert"), driver.pop("sslkey", None), driver.pop("sslpassword", None))
        driver = {name: value for name, value in driver.items() if not name.startswith("ssl")}
        found["ssl"] = context
    if driver:
        found["dsn"] = f"postgresql://?{urlencode(driver)}"
    if host is not None:
        found["host"], found["port"] = host
    if bare:
        found["statement_cache_size"] = 0
    elif address.statement_cache_size is not None:
        found["statement_cache_size"] = address.statement_cache_size
    return found


def _may_work_elsewhere(error: BaseException) -> bool:
    """Whether to try the next host, or again later: the server is away, or not one that takes writes now."""
    if isinstance(error, asyncpg.ClientConfigurationError | ssl.SSLCertVerificationError):
        return False
    state = getattr(error, "sqlstate", None) or ""
    return not state.startswith(REFUSED_STATES)


def _refused(error: BaseException, address: PostgresAddress) -> Refused:
    return Refused(f"PostgreSQL refuses {address}: {_brief(error)}", server="postgres")


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def local_settings(settings: Mapping[str, str]) -> str:
    """A statement that makes these settings for a transaction; those of the server's socket are the pooler's."""
    return _setting({name: value for name, value in settings.items() if not name.startswith("tcp_")}, local=True)


def _setting(settings: Mapping[str, str], *, local: bool = False) -> str:
    scope = "true" if local else "false"
    calls = (f"set_config({_literal(name)}, {_literal(value)}, {scope})" for name, value in settings.items())
    return f"select {', '.join(calls)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _keep_alive(connection: asyncpg.Connection[Any], wanted: Mapping[str, int]) -> None:
    """Have the kernel look after a silent connection, as the address asks."""
    found = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no other way
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, wanted.get("on", 1))
    for name, value in wanted.items():
        number = getattr(socket, _SOCKET_OPTIONS.get(name, ""), None)
        if number is not None and value > 0:
            found.setsockopt(socket.IPPROTO_TCP, number, value)


_SOCKET_OPTIONS = {
    "idle": "TCP_KEEPIDLE",
    "interval": "TCP_KEEPINTVL",
    "count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
