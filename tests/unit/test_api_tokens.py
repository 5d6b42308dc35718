"""API tokens: read strictly, compared whole, and slow to guess."""

from __future__ import annotations

import asyncio

import pytest

from rota_server.apps.api_tokens import ApiToken, parse_tokens
from rota_server.apps.settings import load_settings
from rota_server.apps.store.http.failures import ADDRESSES_LIMIT, FREE, WAITING_LIMIT, AccessFailures

A, B = "a" * 16, "b" * 40


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (A, [("token", A)]),
        (f" {A} , ci:{B}", [("token", A), ("ci", B)]),
        (f"one:{A}\ntwo:{B}\r\n\n", [("one", A), ("two", B)]),
        (f"\ufeff{A}\n{B}\n", [("token", A), ("token", B)]),
        ("bob:schlüssel-für-die-tür", [("bob", "schlüssel-für-die-tür")]),
        (f"x:{A}+/=~._-!", [("x", f"{A}+/=~._-!")]),
    ],
)
def test_tokens_are_parted_by_commas_and_lines(text: str, tokens: list[tuple[str, str]]):
    assert list(parse_tokens(text)) == tokens


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ci:", "entry 1 (ci): the secret has fewer than 16 characters"),
        (f"ci:{A[1:]}", "fewer than 16"),
        ("short", "entry 1 (token): the secret has fewer than 16"),
        (f":{A}", "entry 1: its name"),
        (f"a b:{A}", "entry 1: its name"),
        (f"alice:{A}:t", "entry 1 (alice): the secret holds a colon"),
        (f"alice:{A} {A}", "entry 1 (alice): the secret holds a colon or a space"),
        (f"alice:{A}\x7f", "entry 1 (alice): the secret holds"),
        (f"a:{A},a:{B}", "entry 2 has the same name as another, a"),
        (f"a:{A},b:{A}", "entry 2 has the same secret as another"),
        (f"{A},{A}", "entry 2 has the same secret as another"),
        (f"{A},token:{B}", "entry 2 has the same name as another, token"),
        (f"{A},,{B}", "entry 2 is empty"),
        (f"{A},", "entry 2 is empty"),
        (",", "entry 1 is empty"),
        (" \n ", "holds no token"),
    ],
)
def test_what_might_be_meant_otherwise_is_refused(text: str, said: str):
    with pytest.raises(ValueError, match=r".*") as refused:
        parse_tokens(text)
    assert said in str(refused.value)
    assert A[1:] not in str(refused.value)
    assert B not in str(refused.value)


def test_no_representation_shows_a_secret(monkeypatch: pytest.MonkeyPatch):
    assert A not in repr(ApiToken("ci", A))
    monkeypatch.setenv("ROTA_API_TOKENS", f"ci:{A}://{A}".replace("://", "//"))
    settings = load_settings()
    assert A not in repr(settings)
    assert A not in str(settings.masked())


def test_a_file_has_a_token_a_line_and_is_not_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "tokens"
    file.write_text(f"ci:{A}\nops:{B}\n")
    monkeypatch.setenv("ROTA_API_TOKENS_FILE", str(file))
    assert [token.name for token in load_settings().api_tokens] == ["ci", "ops"]
    file.write_text("\n")
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert ended.value.code == 2
    assert "ROTA_API_TOKENS_FILE" in capsys.readouterr().err


class Naps:
    """Sleeps that are noted, and end when they are let."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.end = asyncio.Event()
        self.end.set()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.end.wait()


async def test_who_fails_again_and_again_is_answered_more_slowly(caplog: pytest.LogCaptureFixture):
    now, naps = [0.0], Naps()
    failures = AccessFailures(lambda: now[0], naps.sleep)
    for _ in range(FREE):
        await failures.failed("192.0.2.1", "GET", "/v1/jobs")
    assert naps.slept == []
    for _ in range(6):
        await failures.failed("192.0.2.1", "GET", "/v1/jobs\x1b[2J")
    assert naps.slept == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    await failures.failed("192.0.2.2", "GET", "/v1/jobs")
    assert len(naps.slept) == 6
    now[0] = 20.0
    await failures.failed("192.0.2.1", "GET", "/x\x1b[2J")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[-1].endswith("GET '/x\\x1b[2J', and 10 others since the last such line")
    now[0] = 1000.0
    await failures.failed("192.0.2.1", "GET", "/v1/jobs")
    assert len(naps.slept) == 7


async def test_waits_and_addresses_are_bounded():
    naps = Naps()
    failures = AccessFailures(lambda: 0.0, naps.sleep)
    for _ in range(FREE):
        await failures.failed("192.0.2.1", "GET", "/")
    naps.end.clear()
    waiting = [asyncio.create_task(failures.failed("192.0.2.1", "GET", "/")) for _ in range(WAITING_LIMIT)]
    await asyncio.sleep(0)
    await failures.failed("192.0.2.1", "GET", "/")  # returns, though nobody lets the others go
    assert len(naps.slept) == WAITING_LIMIT
    naps.end.set()
    await asyncio.gather(*waiting)
    for number in range(3 * ADDRESSES_LIMIT):
        await failures.failed(f"2001:db8::{number:x}", "GET", "/")
    assert len(failures._addresses) <= ADDRESSES_LIMIT
