"""Where PostgreSQL is and how to speak to it: every form of address that its own clients take, read once.

A URL (`postgresql://`, `postgres://`, `postgresql+asyncpg://`) or `key=value` pairs, with the parameters of libpq. What
cannot be honoured is refused with one line that names it; nothing is ignored silently. Pure: opens no file and no
connection. An address never shows its password.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from rota_server.domain.errors import WrongSetting

DEFAULT_PORT = 5432
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRIBUTES = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://")
_SCHEMES = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]+)?")
_DRIVERS_OWN = frozenset(
    (*FILES, "sslmode", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version",
     "krbsrvname", "gsslib", "service")
)  # fmt: skip
"""The driver reads these itself, as libpq does."""

_KEEPALIVE = {"keepalives_idle": "idle", "keepalives_interval": "interval", "keepalives_count": "count"}
_WITHOUT_EFFECT: Mapping[str, tuple[str, ...]] = {
    "gssencmode": ("disable", "prefer"),
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "utf-8"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "replication": ("false", "off", "no", "0"),
}
"""Parameters of libpq whose other values this driver does not know."""

_OPTION = re.compile(r"(?:-c\s*|--)(?P<name>[A-Za-z_][A-Za-z0-9_.\-]*)=(?P<value>.*)", re.DOTALL)
_PAIR = re.compile(r"\s*(?P<name>[A-Za-z_]+)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PostgresAddress:
    """An address as it was understood. `hosts` is empty when the driver shall look where libpq looks."""

    hosts: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    target: str = "any"
    """Which of the hosts will do; with several it is `read-write` unless said otherwise, since Rota writes."""

    random_order: bool = False
    connect_seconds: float | None = None
    """For each host."""

    application: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the session, from `options`."""

    driver: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters of libpq that the driver reads itself."""

    statement_cache_size: int | None = None
    keepalives: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, setting: str = "ROTA_DATABASE_URL") -> PostgresAddress:
        """Read an address.

        Raises:
            WrongSetting: it is none, or has a parameter that cannot be honoured; one line that names `setting` and it.
        """
        try:
            return _address(_pairs_of_text(text.strip()))
        except _Wrong as error:
            raise WrongSetting(f"{setting}: {error}", field=setting) from None

    def as_user(self, user: str, password: str | None) -> PostgresAddress:
        """The same place for another role."""
        return replace(self, user=user, password=password)

    def to_database(self, name: str) -> PostgresAddress:
        """The same server and role, another database."""
        return replace(self, database=name)

    def url(self) -> str:
        """The whole address as one URL, password and all, which `parse` reads again."""
        return self._written(None if self.password is None else quote(self.password, safe=""))

    def __str__(self) -> str:
        """The address for people: without its passwords."""
        shown = replace(self, driver={k: "***" if k == "sslpassword" else v for k, v in self.driver.items()})
        return shown._written(None if self.password is None else "***")  # noqa: SLF001 - one of us

    def _written(self, password: str | None) -> str:
        user = "" if self.user is None else quote(self.user, safe="")
        credentials = user if password is None else f"{user}:{password}"
        sockets = any(host.startswith("/") for host, _ in self.hosts)
        hosts = "" if sockets else ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        parameters = self._parameters()
        if sockets:
            parameters["host"] = ",".join(host for host, _ in self.hosts)
            parameters["port"] = ",".join(str(port) for _, port in self.hosts)
        place = f"{credentials}@{hosts}" if credentials else hosts
        database = "" if self.database is None else quote(self.database, safe="")
        query = urlencode(parameters, safe="/,*", quote_via=quote)
        return f"postgresql://{place}/{database}{f'?{query}' if query else ''}"

    def _parameters(self) -> dict[str, str]:
        found = dict(self.driver)
        if self.target != ("read-write" if len(self.hosts) > 1 else "any"):
            found["target_session_attrs"] = self.target
        if self.random_order:
            found["load_balance_hosts"] = "random"
        if self.connect_seconds is not None:
            found["connect_timeout"] = f"{self.connect_seconds:g}"
        if self.application is not None:
            found["application_name"] = self.application
        if self.settings:
            found["options"] = " ".join(f"-c {name}={_escaped(value)}" for name, value in self.settings.items())
        if self.statement_cache_size is not None:
            found["statement_cache_size"] = str(self.statement_cache_size)
        names = {short: name for name, short in _KEEPALIVE.items()} | {"on": "keepalives"}
        found.update({names.get(name, name): str(value) for name, value in self.keepalives.items()})
        return found


class _Wrong(Exception):
    """The address cannot be honoured; the message says which part of it, and never holds a password."""


def _pairs_of_text(text: str) -> dict[str, str]:
    found = _URL.match(text)
    if found is not None:
        if _SCHEMES.fullmatch(found["scheme"].lower()) is None:
            raise _Wrong(f"{found['scheme']}:// is not PostgreSQL's; begin with postgresql://")
        return _pairs_of_url(text)
    if text.startswith("jdbc:"):
        raise _Wrong("leave out jdbc: and begin with postgresql://; user and password go before the host")
    if "=" not in text:
        raise _Wrong("neither a URL (postgresql://user:password@host:5432/database) nor key=value pairs")
    pairs: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        one = _PAIR.match(text, at)
        if one is None:
            raise _Wrong(
                f"key=value pairs are expected, and cannot be read after {list(pairs)[-1:] or 'the beginning'}"
            )
        value = one["value"]
        value = value[1:-1] if value.startswith("'") else value
        pairs[one["name"]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = one.end()
    return pairs


def _pairs_of_url(text: str) -> dict[str, str]:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _Wrong("the host is not valid (an IPv6 address stands in brackets)") from None
    if parts.fragment or "#" in text or "@" in parts.path:
        raise _Wrong("a character of the password has to be percent-encoded (# is %23, / is %2F, ? is %3F, @ is %40)")
    credentials, _, place = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    pairs: dict[str, str] = {}
    if user:
        pairs["user"] = unquote(user)
    if colon:
        pairs["password"] = unquote(password)
    if place:
        pairs["host"] = ",".join(unquote(host) for host in place.split(","))
    if len(parts.path) > 1:
        pairs["dbname"] = unquote(parts.path[1:])
    given: dict[str, str] = {}
    for name, value in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
        # Several hosts may also stand as several parameters.
        given[name] = f"{given[name]},{value}" if name in ("host", "port") and name in given else value
    return pairs | given


def _address(given: dict[str, str]) -> PostgresAddress:
    pairs = {name: value for name, value in given.items() if value != "" or name == "password"}
    hosts = _hosts(pairs)
    ssl = _ssl_mode(pairs)
    target = _one_of(pairs, "target_session_attrs", SESSION_ATTRIBUTES)
    if target in ("standby", "read-only"):
        raise _Wrong(f"target_session_attrs={target}: Rota writes; use read-write")
    order = _one_of(pairs, "load_balance_hosts", ("disable", "random"))
    address = PostgresAddress(
        hosts=hosts,
        user=pairs.pop("user", None),
        password=pairs.pop("password", None),
        database=pairs.pop("database", None) or pairs.pop("dbname", None),
        target=target or ("read-write" if len(hosts) > 1 else "any"),
        random_order=order == "random",
        connect_seconds=_seconds(pairs),
        application=pairs.pop("application_name", None) or pairs.pop("fallback_application_name", None),
        settings=_options(pairs.pop("options", "")),
        statement_cache_size=_cache_size(pairs),
        keepalives=_keepalives(pairs),
        driver={**ssl, **{name: pairs.pop(name) for name in sorted(_DRIVERS_OWN & set(pairs))}},
    )
    for name in ("dbname", "fallback_application_name"):
        pairs.pop(name, None)
    for name, value in pairs.items():
        if name not in _WITHOUT_EFFECT:
            raise _Wrong(
                f"{name} is no parameter of an address; a setting of the server goes into options=-c name=value"
            )
        if value.lower() not in _WITHOUT_EFFECT[name]:
            raise _Wrong(f"{name}={value} cannot be honoured; possible are {', '.join(_WITHOUT_EFFECT[name])}")
    return address


def _hosts(pairs: dict[str, str]) -> tuple[tuple[str, int], ...]:
    address = pairs.pop("hostaddr", None)
    text = pairs.pop("host", None)
    if address is not None:
        if text is not None:
            raise _Wrong("hostaddr beside host cannot be honoured; give the address as the host")
        text = address
    ports = [_port(port) for port in pairs.pop("port", "").split(",") if port]
    if text is None:
        return () if not ports else tuple(("localhost", port) for port in ports)
    found = [_host(one) for one in text.split(",")]
    if len(ports) > 1 and len(ports) != len(found):
        raise _Wrong(f"port: {len(ports)} ports for {len(found)} hosts")
    if len(ports) == 1:
        ports *= len(found)
    return tuple(
        (host, own if own is not None else ports[index] if ports else DEFAULT_PORT)
        for index, (host, own) in enumerate(found)
    )


def _host(text: str) -> tuple[str, int | None]:
    if text.startswith(("/", "@")):
        return text, None
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _Wrong(f"host: {text} is no address in brackets")
        return host, _port(rest[1:]) if rest[1:] else None
    if text.count(":") > 1:
        return text, None  # an IPv6 address without brackets, as libpq takes it in `host`
    host, _, port = text.partition(":")
    return host or "localhost", _port(port) if port else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise _Wrong(f"port: {text} is not between 1 and 65535")
    return int(text)


def _one_of(pairs: dict[str, str], name: str, known: tuple[str, ...]) -> str | None:
    value = pairs.pop(name, None)
    if value is not None and value not in known:
        raise _Wrong(f"{name}: must be one of {', '.join(known)}, not {value}")
    return value


def _ssl_mode(pairs: dict[str, str]) -> dict[str, str]:
    """`sslmode`, or `ssl` and `requiressl` as others write it; the root `system` asks for the strictest mode."""
    loose = pairs.pop("ssl", None)
    required = pairs.pop("requiressl", None)
    mode = _one_of(pairs, "sslmode", SSL_MODES)
    if mode is None and loose is not None:
        mode = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable",
                "off": "disable"}.get(loose.lower(), loose)  # fmt: skip
        if mode not in SSL_MODES:
            raise _Wrong(f"ssl: must be one of {', '.join(SSL_MODES)}, not {loose}; sslmode is the better name")
    if mode is None and required == "1":
        mode = "require"
    if pairs.get("sslrootcert") == "system":
        if mode not in (None, "verify-full"):
            raise _Wrong(f"sslrootcert=system goes with sslmode=verify-full, not with {mode}")
        mode = "verify-full"
    return {} if mode is None else {"sslmode": mode}


def _seconds(pairs: dict[str, str]) -> float | None:
    text = pairs.pop("connect_timeout", None)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,6}", text.strip()):
        raise _Wrong(f"connect_timeout: must be whole seconds, not {text}")
    # As in libpq, 0 is no limit of one's own; ours stays.
    return float(text) if float(text) > 0 else None


def _cache_size(pairs: dict[str, str]) -> int | None:
    sizes = [pairs.pop(name, None) for name in ("statement_cache_size", "prepared_statement_cache_size")]
    for size in sizes:
        if size is not None and not re.fullmatch(r"[0-9]{1,6}", size):
            raise _Wrong(f"statement_cache_size: must be a number of statements, not {size}")
    return min((int(size) for size in sizes if size is not None), default=None)


def _keepalives(pairs: dict[str, str]) -> dict[str, int]:
    found = {}
    for name in ("keepalives", *_KEEPALIVE, "tcp_user_timeout"):
        text = pairs.pop(name, None)
        if text is None:
            continue
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise _Wrong(f"{name}: must be a number, not {text}")
        found[{"keepalives": "on", **_KEEPALIVE}.get(name, name)] = int(text)
    return found


def _options(text: str) -> dict[str, str]:
    """Server settings of `-c name=value` and `--name=value`, where a backslash protects a space."""
    try:
        words = shlex.split(text.replace("'", r"\'").replace('"', r"\""))
    except ValueError:
        raise _Wrong("options: ends with a backslash") from None
    found, index = {}, 0
    while index < len(words):
        word = words[index]
        if word == "-c" and index + 1 < len(words):
            index += 1
            word += words[index]
        one = _OPTION.fullmatch(word)
        if one is None:
            raise _Wrong(f"options: {word} is not -c name=value")
        found[one["name"].replace("-", "_")] = one["value"]
        index += 1
    return found


def _escaped(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)
