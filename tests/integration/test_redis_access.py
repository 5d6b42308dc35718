"""What each kind of process may do in Redis: what it calls, on Rota's names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from rota_server.adapters.redis.access import RULES, user_line
from tests.conftest import redis_as
from tests.servers import split_rules

WORK = "rota:work:default:normal"
REFUSED = {
    "relay": [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET maxmemory",
        "ACL LIST",
        "GET shop:basket",
        "SET rota:mine 1",
        "XREADGROUP GROUP executors me STREAMS rota:work:default:normal >",
        "EVAL return(1) 1 shop:basket",
        "SHUTDOWN",
    ],
    "scheduler": [
        "FLUSHDB",
        f"XADD {WORK} * a b",
        "XADD rota:feed * a b",
        f"DEL {WORK}",
        "XDEL rota:feed 1-0",
        "XRANGE rota:control - +",
        "GET rota:refill",
        "CONFIG GET maxmemory",
        "PUBLISH any thing",
    ],
    "executor": [
        "FLUSHDB",
        f"XADD {WORK} * a b",
        "XADD rota:control * a b",
        "XADD rota:feed * a b",
        "XRANGE rota:feed - +",
        "XREAD STREAMS rota:feed 0",
        f"XTRIM {WORK} MAXLEN 0",
        "SET rota:refill 1",
        "KEYS *",
        "ACL SETUSER me on",
        "MONITOR",
        "CLIENT LIST",
        "GET shop:basket",
        "EVAL return(redis.call('XADD',KEYS[1],'*','a','b')) 1 rota:work:a:low",
    ],
}
"""Commands that the kind's user must not be able to call."""


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_user_is_refused_what_its_processes_never_do(redis_url: str, kind: str) -> None:
    taken = []
    with redis.Redis.from_url(redis_as(redis_url, kind)) as client:
        client.ping()
        for command in REFUSED[kind]:
            try:
                client.execute_command(*command.split())
            except NoPermissionError:
                continue
            except redis.ResponseError as error:
                if "permissions" in str(error):
                    continue  # from within a script
                raise
            taken.append(command)
    assert taken == []


def test_the_document_has_the_rules_that_are_tested() -> None:
    text = (Path(__file__).parents[2] / "docs" / "servers.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("user rota_")]
    wanted = {kind: [w for w in split_rules(user_line(kind, f"rota_{kind}", "x")) if w[0] != "#"] for kind in RULES}
    found = {w[1].removeprefix("rota_"): [x for x in w if x[0] != "#"] for w in map(split_rules, lines)}
    assert found == wanted


def test_a_password_stands_in_the_rules_as_its_digest_only() -> None:
    line = user_line("relay", "rota_relay", "secret-of-the-relay")
    assert "secret-of-the-relay" not in line
    assert len(line.split("#")[1].split()[0]) == 64
