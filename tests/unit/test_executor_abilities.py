"""Who can take what, by what executors say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rota_server.domain.executors import Abilities, serves
from rota_server.domain.ports.coordination import Member

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def member(name: str, **info: Any) -> Member:
    return Member(id=name, role="executor", since=SINCE, info={"queues": ["mail"], "tasks": ["greet"], **info})


def test_one_that_drains_takes_nothing_more() -> None:
    assert serves(member("a").info, "mail")
    assert serves(member("a", draining=False).info, "mail")
    assert not serves(member("a", draining=True).info, "mail")


def test_what_only_a_draining_one_knows_nobody_knows() -> None:
    both = Abilities([member("a", tasks=["old"], draining=True), member("b", tasks=["new"])])
    assert both.lacks("mail", "old")
    assert not both.lacks("mail", "new")


def test_a_queue_that_only_a_draining_one_serves_has_nobody() -> None:
    assert not Abilities([member("a", draining=True)]).lacks("mail", "greet")
