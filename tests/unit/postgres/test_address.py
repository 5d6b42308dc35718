"""Every form in which people paste the address of a PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.domain.errors import WrongSetting

ONE = {"hosts": (("db", 5432),), "user": "rota", "password": "pw", "database": "jobs"}

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("postgresql://rota:pw@db:5432/jobs", ONE),
    ("postgres://rota:pw@db/jobs", ONE),
    ("postgresql+asyncpg://rota:pw@db/jobs", ONE),
    ("postgresql+psycopg2://rota:pw@db/jobs", ONE),
    ("host=db user=rota password=pw dbname=jobs", ONE),
    ("host = db  port=5432 user='rota' password = 'pw' dbname=jobs", ONE),
    (r"host=db user=rota password='it\'s \\ here' dbname=jobs", {**ONE, "password": "it's \\ here"}),
    ("postgresql:///jobs?host=db&user=rota&password=pw", ONE),
    ("postgresql://rota:p%40ss%2Fw%3Aord%23@db/jobs", {**ONE, "password": "p@ss/w:ord#"}),
    ("postgresql://rota:p+w@db/jobs", {**ONE, "password": "p+w"}),
    ("postgresql://db/jobs?user=rota&password=p+w", {**ONE, "password": "p+w"}),
    ("postgresql://[::1]:6432/jobs", {"hosts": (("::1", 6432),), "database": "jobs"}),
    ("host=::1 port=6432 dbname=jobs", {"hosts": (("::1", 6432),)}),
    ("postgresql:///jobs?host=/run/postgresql", {"hosts": (("/run/postgresql", 5432),), "database": "jobs"}),
    ("postgresql://%2Frun%2Fpostgresql:6432/jobs?port=6432", {"hosts": (("/run/postgresql:6432", 6432),)}),
    ("postgresql:///jobs", {"hosts": (), "database": "jobs", "user": None, "password": None}),
    ("postgresql://", {"hosts": (), "database": None}),
    ("host=/run/postgresql dbname=jobs", {"hosts": (("/run/postgresql", 5432),)}),
    ("postgresql://h1:1,h2:2,h3/jobs", {"hosts": (("h1", 1), ("h2", 2), ("h3", 5432)), "target": "read-write"}),
    ("host=h1,h2 port=1,2", {"hosts": (("h1", 1), ("h2", 2)), "target": "read-write"}),
    ("host=h1,h2 port=7 target_session_attrs=any", {"hosts": (("h1", 7), ("h2", 7)), "target": "any"}),
    ("postgresql:///jobs?host=h1:1&host=h2:2", {"hosts": (("h1", 1), ("h2", 2))}),
    ("postgresql://h1,h2/jobs?target_session_attrs=primary", {"target": "primary"}),
    ("postgresql://h1,h2/jobs?load_balance_hosts=random", {"random_order": True}),
    ("postgresql://db/jobs?sslmode=require", {"driver": {"sslmode": "require"}}),
    ("postgresql://db/jobs?ssl=require", {"driver": {"sslmode": "require"}}),
    ("postgresql://db/jobs?ssl=true", {"driver": {"sslmode": "require"}}),
    ("postgresql://db/jobs?ssl=false", {"driver": {"sslmode": "disable"}}),
    ("postgresql://db/jobs?requiressl=1", {"driver": {"sslmode": "require"}}),
    ("postgresql://db/jobs?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
     {"driver": {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "sslcert": "/c.pem", "sslkey": "/k.pem"}}),
    ("postgresql://db/jobs?sslrootcert=system", {"driver": {"sslmode": "verify-full", "sslrootcert": "system"}}),
    ("postgresql://db/jobs?sslmode=require&channel_binding=prefer", {"driver": {"sslmode": "require"}}),
    ("postgresql://db/jobs?connect_timeout=7", {"connect_seconds": 7.0}),
    ("postgresql://db/jobs?connect_timeout=0", {"connect_seconds": None}),
    ("postgresql://db/jobs?application_name=shop", {"application": "shop"}),
    ("postgresql://db/jobs?options=-c%20search_path%3Dpublic%20-cwork_mem%3D8MB%20--geqo=off",
     {"settings": {"search_path": "public", "work_mem": "8MB", "geqo": "off"}}),
    (r"host=db options='-c TimeZone=Europe/Berlin -c a.b=x\\ y'",
     {"settings": {"TimeZone": "Europe/Berlin", "a.b": "x y"}}),
    ("postgresql://db/jobs?gssencmode=disable&client_encoding=UTF8&sslsni=1", {}),
    ("postgresql://db/jobs?prepared_statement_cache_size=0", {"statement_cache_size": 0}),
    ("postgresql://db/jobs?keepalives=1&keepalives_idle=30", {"keepalives": {"on": 1, "idle": 30}}),
    ("postgresql://db/jobs?passfile=/home/x/.pgpass", {"driver": {"passfile": "/home/x/.pgpass"}}),
    ("postgresql://db/jobs?sslmode=&application_name=", {"driver": {}, "application": None}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_an_address_is_understood(text: str, expected: dict[str, Any]):
    address = PostgresAddress.parse(text)
    assert {name: getattr(address, name) for name in expected} == expected
    assert PostgresAddress.parse(address.url()) == address, "what it writes it reads again"
    assert PostgresAddress.parse(f"  {text}\n") == address, "as read from a file"


REFUSED = [
    ("postgresql://db/jobs?sslmode=full", "sslmode: must be one of disable, allow, prefer, require, verify-ca"),
    ("postgresql://db/jobs?ssl=perhaps", "ssl: must be one of"),
    ("postgresql://db/jobs?sslrootcert=system&sslmode=require", "sslrootcert=system goes with sslmode=verify-full"),
    ("postgresql://db/jobs?channel_binding=require", "channel_binding=require cannot be honoured"),
    ("postgresql://db/jobs?gssencmode=require", "gssencmode=require cannot be honoured"),
    ("postgresql://db/jobs?client_encoding=latin1", "client_encoding=latin1 cannot be honoured"),
    ("postgresql://db/jobs?pgbouncer=true", "pgbouncer is no parameter of an address"),
    ("postgresql://db/jobs?work_mem=8MB", r"work_mem is no parameter .* options=-c name=value"),
    ("postgresql://db/jobs?connect_timeout=soon", "connect_timeout: must be whole seconds, not soon"),
    ("postgresql://db/jobs?options=verbose", "options: verbose is not -c name=value"),
    ("postgresql://h1,h2/jobs?target_session_attrs=standby", "target_session_attrs=standby: Rota writes"),
    ("postgresql://h1,h2/jobs?target_session_attrs=master", "target_session_attrs: must be one of any, primary"),
    ("host=h1,h2,h3 port=1,2", "port: 2 ports for 3 hosts"),
    ("postgresql://db:port/jobs", "port: port is not between 1 and 65535"),
    ("postgresql://db:65536/jobs", "port: 65536 is not between"),
    ("postgresql://[::1/jobs", "the host is not valid"),
    ("host=db hostaddr=10.0.0.1", "hostaddr beside host"),
    ("mysql://db/jobs", "mysql:// is not PostgreSQL's"),
    ("jdbc:postgresql://db/jobs", "leave out jdbc:"),
    ("db.example.org", "neither a URL"),
    ("host=db user rota", "cannot be read after"),
    ("", "neither a URL"),
    ("postgresql://rota:secret#1@db/jobs", "percent-encoded"),
    ("postgresql://rota:secret/1@db/jobs", "percent-encoded"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_honoured_is_refused_with_one_line_that_names_it(text: str, message: str):
    with pytest.raises(WrongSetting, match=f"^ROTA_OWNER_DATABASE_URL: .*{message}") as refused:
        PostgresAddress.parse(text, setting="ROTA_OWNER_DATABASE_URL")
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_never_shows_its_passwords():
    address = PostgresAddress.parse("postgresql://rota:hush@h1:1,h2/jobs?sslmode=require&sslpassword=hush")
    assert "hush" not in f"{address} {address!r}"
    assert str(address) == "postgresql://rota:***@h1:1,h2:5432/jobs?sslmode=require&sslpassword=***"


def test_an_address_of_another_role_and_database_keeps_everything_else():
    address = PostgresAddress.parse("postgresql://owner:hush@h1,h2/postgres?sslmode=require&options=-c%20geqo=off")
    other = address.as_user("rota_app", "a/b").to_database("jobs")
    assert other.url() == "postgresql://rota_app:a%2Fb@h1:5432,h2:5432/jobs?sslmode=require&options=-c%20geqo%3Doff"
