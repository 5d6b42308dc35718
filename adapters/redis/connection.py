"""How Rota talks to Redis: explicit timeouts, no retries behind the caller's back, errors as Rota's own.

A retried command can take effect twice, so whether to repeat is decided where the effect is known. Nothing here
logs or raises the URL: it may hold a password.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from rota_server.adapters.redis.address import FILES, RedisAddress
from rota_server.domain.errors import Refused, Unavailable, WrongSetting

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
"""How long one answer may take. A blocking read must ask for less, see BLOCK_SECONDS."""

BLOCK_SECONDS = 2.0
"""The longest time that a blocking read asks the server to wait."""


class _Packing(AbstractConnection):
    """Packs commands with hiredis. The asyncio client's own packing was a third of the relay's time under load."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as the server reads it; a name of two words is two arguments."""
        name = args[0]
        words = (name if isinstance(name, bytes) else name.encode()).split()
        packed: bytes = hiredis.pack_command((*words, *args[1:]))
        return [packed]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - theirs
        """As the driver does it, without losing a cancellation.

        It uses `asyncio.wait_for`, which before Python 3.12 swallows one that arrives when the command has just been
        sent: a service that was told to stop would go on forever.
        """
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        await super().send_packed_command(command, check_health)
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # the answer is still to come, and nobody will read it
            raise asyncio.CancelledError

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As the driver does it, without keeping a connection to a server that is a replica.

        It may have been the master until a failover: where the address leads elsewhere now, only a new connection finds
        the one that takes writes.
        """
        try:
            return await super().read_response(*args, **options)
        except (ReadOnlyError, MasterDownError):
            await self.disconnect(nowait=True)
            raise


class PackedConnection(_Packing, Connection):
    """Over TCP."""


class PackedTlsConnection(_Packing, SSLConnection):
    """Over TCP, with TLS."""


class PackedUnixConnection(_Packing, UnixDomainSocketConnection):
    """Over a socket of this machine."""


def connect(url: str) -> Redis:
    """A client with a pool of connections; connects on first use. Close it with `aclose()`.

    Raises:
        WrongSetting: the URL is not one of Redis, or has an option or a file that cannot be honoured.
    """
    address = RedisAddress.parse(url)
    _check_files(address)
    kind: type[AbstractConnection] = PackedConnection
    place: dict[str, Any] = {"host": address.host, "port": address.port, "socket_keepalive": True}
    if address.kind == "unix":
        kind, place = PackedUnixConnection, {"path": address.path}
    elif address.kind == "rediss":
        kind = PackedTlsConnection
    # RESP 2 and bytes: what a script or a stream command answers then has one shape on every server.
    arguments = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "db": address.db,
        "username": address.username,
        "password": address.password,
        **place,
        **address.options,
    }
    return Redis.from_pool(ConnectionPool(connection_class=kind, max_connections=64, **arguments))


def _check_files(address: RedisAddress) -> None:
    for name in FILES:
        path = address.options.get(name)
        if path is not None and not os.access(path, os.R_OK):
            reason = "cannot be read" if Path(path).exists() else "there is no such file"
            raise WrongSetting(f"ROTA_REDIS_URL: {name}={path}: {reason}")


async def prove_access(client: Redis, url: str) -> None:
    """Talk to the server once.

    Raises:
        Refused: it does not want us (password, user, database, certificate).
        Unavailable: it does not answer.
    """
    try:
        await execute(client, "PING")
    except (AuthenticationError, NoPermissionError, ResponseError) as error:
        raise Refused(f"Redis refuses {RedisAddress.parse(url)}: {error}", server="redis") from error
    except (RedisError, OSError, TimeoutError) as error:
        if _names_a_certificate(error):
            raise Refused(f"Redis refuses {RedisAddress.parse(url)}: {error}", server="redis") from error
        raise Unavailable(f"Redis does not answer: {error}", server="redis") from error


def _names_a_certificate(error: BaseException | None) -> bool:
    return error is not None and (
        isinstance(error, ssl.SSLCertVerificationError)
        or _names_a_certificate(error.__cause__ if error.__cause__ is not None else error.__context__)
    )


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raise whatever the driver raises as Unavailable, saying what was being done."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis cannot {action}: {error}", server="redis") from error


async def execute(client: Redis, *command: Any) -> Any:
    """One command as it is written, answered as the server answers it. The driver's errors come through."""
    return await cast("Any", client).execute_command(*command)


class Script:
    """One Lua script from the `.lua` file of this name, called by its digest, sent in full when Redis lost it.

    `libraries` are files whose functions it uses.
    """

    def __init__(self, name: str, *libraries: str) -> None:
        files = (Path(__file__).with_name(f"{one}.lua") for one in (*libraries, name))
        self._source = "".join(file.read_text(encoding="utf-8") for file in files)
        self._digest = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it. The driver's errors come through untranslated."""
        try:
            return await execute(client, "EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await execute(client, "EVAL", self._source, len(keys), *keys, *arguments)


async def last_id(client: Redis, key: str) -> bytes:
    """The greatest entry id that the stream ever had, `0-0` for one that does not exist."""
    return cast("bytes", await _last_id(client, [key], []))


_last_id = Script("last_id")
