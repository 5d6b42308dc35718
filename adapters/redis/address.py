"""Where Redis is and how to speak to it: every form of URL that its Python client takes, read once.

`redis://`, `rediss://` (TLS) and `unix://`, with the client's own options. What Rota decides itself, or cannot honour,
is refused with one line that names it. Pure: opens no file and no connection. An address never shows its password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from rota_server.domain.errors import WrongSetting

DEFAULT_PORT = 6379
KINDS = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+socket": "unix",
    "redis+unix": "unix",
}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")
SHORTEST_ANSWER_SECONDS = 3.0
"""Blocking reads ask the server to wait for two seconds."""


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """An address as it was understood."""

    kind: str
    """`redis`, `rediss` (with TLS) or `unix` (then `path` says where)."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The client's own arguments: `ssl_...`, `client_name`, `socket_timeout`, `socket_connect_timeout`."""

    @classmethod
    def parse(cls, text: str, *, setting: str = "ROTA_REDIS_URL") -> RedisAddress:
        """Read an address.

        Raises:
            WrongSetting: it is none, or has an option that cannot be honoured; one line that names `setting` and it.
        """
        try:
            return _address(text.strip())
        except _Wrong as error:
            raise WrongSetting(f"{setting}: {error}", field=setting) from None

    def as_user(self, username: str, password: str) -> RedisAddress:
        """The same place for another user."""
        return replace(self, username=username, password=password)

    def url(self) -> str:
        """The whole address as one URL, password and all, which `parse` reads again."""
        return self._written(None if self.password is None else quote(self.password, safe=""))

    def __str__(self) -> str:
        """The address for people: without its passwords."""
        hidden = {name: "***" if name == "ssl_password" else value for name, value in self.options.items()}
        return replace(self, options=hidden)._written(None if self.password is None else "***")  # noqa: SLF001 - ours

    def _written(self, password: str | None) -> str:
        user = quote(self.username or "", safe="")
        credentials = user if password is None else f"{user}:{password}"
        options = {name: str(value) for name, value in self.options.items()}
        if self.kind == "unix":
            place, path = "", quote(self.path or "", safe="/")
            options = {"db": str(self.db), **options}
        else:
            place, path = f"[{self.host}]" if ":" in self.host else self.host, f"/{self.db}"
            place = f"{place}:{self.port}"
        query = urlencode(options, safe="/*", quote_via=quote)
        at = f"{credentials}@" if credentials else ""
        return f"{self.kind}://{at}{place}{path}{f'?{query}' if query else ''}"


class _Wrong(Exception):
    """The address cannot be honoured; the message says which part of it, and never holds a password."""


def _address(text: str) -> RedisAddress:
    try:
        parts = urlsplit(text)
        if "#" in text or "@" in parts.path:
            raise _Wrong(
                "a character of the password has to be percent-encoded (# is %23, / is %2F, ? is %3F, @ is %40)"
            )
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _Wrong("the host or the port is not valid (port 1 to 65535, an IPv6 address in brackets)") from None
    kind = KINDS.get(parts.scheme)
    if kind is None:
        raise _Wrong("a URL of Redis begins with redis://, rediss:// or unix:// (of a Sentinel's, give the master)")
    if port == 0:
        raise _Wrong("port: 0 is not between 1 and 65535")
    options = _options(dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True)), kind)
    path = unquote(parts.path)
    if kind == "unix" and not path:
        raise _Wrong("unix:// needs the path of a socket: unix:///run/redis.sock")
    db = options.pop("db", None) or ("" if kind == "unix" else path.strip("/"))
    return RedisAddress(
        kind=kind,
        host=unquote(host or "localhost"),
        port=port or DEFAULT_PORT,
        path=path if kind == "unix" else None,
        db=_database(db),
        username=options.pop("username", None) or (unquote(parts.username) if parts.username else None),
        password=options.pop("password", None) or (unquote(parts.password) if parts.password else None),
        options=options,
    )


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 7):
        raise _Wrong(f"the database {text} is not a number")
    return int(text or 0)


def _options(given: dict[str, str], kind: str) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        if name.startswith("ssl_") and name in _READERS and kind != "rediss":
            raise _Wrong(f"{name} goes with rediss://, not with {kind}://")
        reader = _READERS.get(name)
        if reader is None:
            raise _Wrong(f"{name} is no option of an address; {_known()} are")
        try:
            found[name] = reader(value)
        except ValueError as error:
            raise _Wrong(f"{name}={'***' if 'password' in name else value}: {error or 'not valid'}") from None
    return found


def _known() -> str:
    return ", ".join(sorted(_READERS))


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "on"):
        return True
    if text.lower() in ("false", "no", "0", "off"):
        return False
    raise ValueError("must be true or false")


def _requirement(text: str) -> str:
    word = text.lower().removeprefix("cert_")
    if word not in ("none", "optional", "required"):
        raise ValueError("must be none, optional or required")
    return word


def _seconds(at_least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
        if not at_least <= seconds <= 3600:
            raise ValueError(f"must be between {at_least:g} and 3600 seconds")
        return seconds

    return read


def _tls_version(text: str) -> int:
    versions = {"1.2": 771, "tlsv1.2": 771, "tlsv1_2": 771, "771": 771, "1.3": 772, "tlsv1.3": 772, "tlsv1_3": 772,
                "772": 772}  # fmt: skip
    if text.lower() not in versions:
        raise ValueError("must be 1.2 or 1.3")
    return versions[text.lower()]


_READERS: dict[str, Callable[[str], Any]] = {
    "db": str,
    "username": str,
    "password": str,
    "client_name": str,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_ciphers": str,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _boolean,
    "ssl_min_version": _tls_version,
    "socket_timeout": _seconds(SHORTEST_ANSWER_SECONDS),
    "socket_connect_timeout": _seconds(0.1),
}
