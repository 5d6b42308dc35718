"""Every form in which people paste the address of a Redis."""

from __future__ import annotations

from typing import Any

import pytest

from rota_server.adapters.redis.address import RedisAddress
from rota_server.adapters.redis.connection import PackedConnection, PackedTlsConnection, PackedUnixConnection, connect
from rota_server.domain.errors import WrongSetting

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("redis://cache", {"kind": "redis", "host": "cache", "port": 6379, "db": 0, "username": None, "password": None}),
    ("redis://:pw@cache:6380/3", {"port": 6380, "db": 3, "username": None, "password": "pw"}),
    ("redis://rota:p%40%2F%23+w@cache/3", {"username": "rota", "password": "p@/#+w"}),
    ("redis://cache?db=4&username=rota&password=p+w", {"db": 4, "username": "rota", "password": "p+w"}),
    ("redis://cache/1?db=2", {"db": 2}),
    ("redis://[::1]:6380/", {"host": "::1", "port": 6380, "db": 0}),
    ("valkey://cache", {"kind": "redis"}),
    ("rediss://cache", {"kind": "rediss", "options": {}}),
    ("rediss://cache?ssl_cert_reqs=none&ssl_check_hostname=false",
     {"options": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}}),
    ("rediss://cache?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem&ssl_min_version=TLSv1.3",
     {"options": {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem", "ssl_min_version": 772}}),
    ("rediss://cache?ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
     {"options": {"ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem"}}),
    ("unix:///run/redis.sock", {"kind": "unix", "path": "/run/redis.sock", "db": 0}),
    ("unix://rota:pw@/run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2, "username": "rota", "password": "pw"}),
    ("redis+socket:///run/redis.sock", {"kind": "unix", "path": "/run/redis.sock"}),
    ("redis://cache?socket_timeout=10&client_name=shop", {"options": {"socket_timeout": 10.0, "client_name": "shop"}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_an_address_is_understood(text: str, expected: dict[str, Any]):
    address = RedisAddress.parse(text)
    assert {name: getattr(address, name) for name in expected} == expected
    assert RedisAddress.parse(address.url()) == address, "what it writes it reads again"
    assert RedisAddress.parse(f" {text}\n") == address, "as read from a file"


REFUSED = [
    ("redis://cache/jobs", "the database jobs is not a number"),
    ("redis://cache?db=-1", "the database -1 is not a number"),
    ("redis://cache:port/0", "the host or the port is not valid"),
    ("redis://cache:65536", "the host or the port is not valid"),
    ("redis://[::1", "the host or the port is not valid"),
    ("redis-sentinel://s1:26379/mymaster", "begins with redis://, rediss:// or unix://"),
    ("cache:6379", "begins with redis://"),
    ("", "begins with redis://"),
    ("redis://:secret#1@cache/0", "percent-encoded"),
    ("redis://:secret/1@cache/0", "percent-encoded"),
    ("unix://", "needs the path of a socket"),
    ("redis://cache?ssl_cert_reqs=none", "ssl_cert_reqs goes with rediss://"),
    ("rediss://cache?ssl_cert_reqs=maybe", "ssl_cert_reqs=maybe: must be none, optional or required"),
    ("rediss://cache?ssl_check_hostname=perhaps", "ssl_check_hostname=perhaps: must be true or false"),
    ("rediss://cache?ssl_min_version=1.0", "ssl_min_version=1.0: must be 1.2 or 1.3"),
    ("redis://cache?socket_timeout=1", "socket_timeout=1: must be between 3 and 3600 seconds"),
    ("redis://cache?decode_responses=true", "decode_responses is no option of an address"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_honoured_is_refused_with_one_line_that_names_it(text: str, message: str):
    with pytest.raises(WrongSetting, match=f"^ROTA_REDIS_URL: .*{message}") as refused:
        RedisAddress.parse(text)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_never_shows_its_passwords():
    address = RedisAddress.parse("rediss://rota:hush@cache/1?ssl_password=hush&ssl_certfile=/c.pem")
    assert "hush" not in f"{address} {address!r}"
    assert str(address) == "rediss://rota:***@cache:6379/1?ssl_password=***&ssl_certfile=/c.pem"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("redis://cache", PackedConnection),
        ("rediss://cache?ssl_cert_reqs=none", PackedTlsConnection),
        ("unix:///run/redis.sock", PackedUnixConnection),
    ],
)
def test_a_connection_of_every_kind_packs_its_commands_itself(text: str, kind: type):
    connection = connect(text).connection_pool.make_connection()
    assert type(connection) is kind
    assert connection.pack_command("XADD", "k") == [b"*2\r\n$4\r\nXADD\r\n$1\r\nk\r\n"]


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(WrongSetting, match=r"ssl_ca_certs=/nowhere/ca\.pem: there is no such file"):
        connect("rediss://cache?ssl_ca_certs=/nowhere/ca.pem")
