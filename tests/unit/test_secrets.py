"""Secrets by reference: what is taken, where it is put, and that nothing of it is left behind."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota_server.apps.executor import secret_sources
from rota_server.apps.executor.attempts import Attempt, Failed, Succeeded
from rota_server.apps.executor.masking import MASK, Masker, MaskingSink
from rota_server.apps.executor.secret_sources import NoSecret, SecretSources, parse_grants, taken_from
from rota_server.domain.errors import Rejected
from rota_server.domain.jobs.secret_references import (
    check_secrets,
    names_secrets,
    refuse_foreign_secrets,
    revealed,
    secrets_in,
)
from tests.integration.builtin_tasks import Kept, attempt_of

TOKEN = 's3cr3t/"t\u00f6ken"+\\x'


def test_references_are_found_everywhere_and_replaced_with_what_stands_around_them() -> None:
    args = {
        "headers": {"Authorization": {"$secret": "billing-token", "prefix": "Bearer "}},
        "list": [1, {"deep": {"$secret": "a.b", "suffix": "/x"}}],
        "plain": {"secret": "$secret"},
    }
    found = secrets_in(args)
    assert [one.name for one in found] == ["billing-token", "a.b"]
    made = revealed(args, found, {"billing-token": "t1", "a.b": "t2"})
    assert made == {
        "headers": {"Authorization": "Bearer t1"},
        "list": [1, {"deep": "t2/x"}],
        "plain": {"secret": "$secret"},
    }
    assert names_secrets(args)
    assert not names_secrets(args["plain"])


@pytest.mark.parametrize(
    "reference",
    [
        {"$secret": 5},
        {"$secret": ""},
        {"$secret": "../etc/passwd"},
        {"$secret": ".hidden"},
        {"$secret": "a b"},
        {"$secret": "a\n"},
        {"$secret": "x" * 101},
        {"$secret": "token-file"},
        {"$secret": "\u0430bc"},
        {"$secret": {"$event": "data.name"}},
        {"$secret": "${data.name}"},
        {"$secret": "a", "prefx": "Bearer "},
        {"$secret": "a", "prefix": 1},
        {"$secret": "a", "prefix": "x" * 8193},
    ],
)
def test_a_reference_that_is_not_well_formed_is_refused_with_its_place(reference: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        secrets_in({"json": {"key": reference}})
    assert str(refused.value.field).startswith("args.json.key")


def test_what_goes_into_the_log_gets_no_secrets() -> None:
    with pytest.raises(Rejected, match="log"):
        check_secrets("event.publish", secrets_in({"data": {"$secret": "a"}}))
    check_secrets("event.publish", [])


def test_an_event_cannot_name_a_secret() -> None:
    template = {"json": {"$event": "data"}, "headers": {"A": {"$secret": "own", "prefix": "${data.p}"}}}
    headers = {"A": {"$secret": "own", "prefix": "x"}}
    refuse_foreign_secrets(template, {"json": {"a": 1}, "headers": headers})
    for brought in ({"$secret": "own"}, {"a": [{"$secret": "other"}]}):
        with pytest.raises(Rejected, match="cannot name a secret"):
            refuse_foreign_secrets(template, {"json": brought, "headers": headers})


# -- where they come from --------------------------------------------------------------------------------------------


async def value_of(sources: SecretSources, name: str, *, task: str = "t", queue: str = "q") -> str:
    return (await sources.values([name], task=task, queue=queue))[name]


async def test_secrets_come_from_environment_file_directory_and_command_in_this_order(tmp_path: Path) -> None:
    (tmp_path / "by-file").write_text("from-file\r\n")
    (tmp_path / "by-dir").write_text("from-dir\n")
    (tmp_path / "by-env").write_text("not this one")
    environment = {"ROTA_SECRET_BY_ENV": "from-env", "ROTA_SECRET_PEM_FILE": str(tmp_path / "by-file"), "PATH": "/bin"}
    program = f"{sys.executable} -c 'import sys; print(\"from-command \" + sys.argv[1])'"
    sources = SecretSources(taken_from(environment), directory=tmp_path, command=program)
    assert environment == {"PATH": "/bin"}
    found = await sources.values(["by-env", "pem", "by-dir", "other"], task="t", queue="q")
    assert found == {"by-env": "from-env", "pem": "from-file", "by-dir": "from-dir", "other": "from-command other"}
    assert await value_of(sources, "by.env") == "from-env"


@pytest.mark.parametrize(
    ("content", "kind", "retryable"),
    [
        (None, "UnknownSecret", True),
        (b"abc\n", "SecretUnusable", False),
        (b"", "SecretUnusable", False),
        (b"\xff\xfe\xff\xfe", "SecretUnusable", False),
        (b"abcd\x00ef", "SecretUnusable", False),
        (b"x" * 65537, "SecretUnusable", False),
    ],
)
async def test_a_secret_that_cannot_be_had_is_said_so_by_name_alone(
    tmp_path: Path, content: bytes | None, kind: str, *, retryable: bool
) -> None:
    if content is not None:
        (tmp_path / "billing-token").write_bytes(content)
    with pytest.raises(NoSecret) as failed:
        await value_of(SecretSources({}, directory=tmp_path), "billing-token")
    assert (failed.value.kind, failed.value.retryable) == (kind, retryable)
    assert "billing-token" in str(failed.value)
    assert str(tmp_path) not in str(failed.value)
    assert "abc" not in str(failed.value)


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import time; print('half', flush=True); time.sleep(600)"])
async def test_a_command_that_fails_or_never_answers_is_an_attempts_failure(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_sources, "COMMAND_SECONDS", 0.5)
    with pytest.raises(NoSecret) as failed:
        await value_of(SecretSources({}, command=f'{sys.executable} -c "{script}"'), "a")
    assert (failed.value.kind, failed.value.retryable) == ("SecretUnavailable", True)
    assert "half" not in str(failed.value)


async def test_where_there_are_grants_only_those_jobs_get_the_secret() -> None:
    environment = {"ROTA_SECRET_BILLING": "value", "ROTA_SECRET_OTHER": "value"}
    sources = SecretSources(environment, grants=parse_grants(["billing:http.*@invoices", "billing:mail.send"]))
    assert await value_of(sources, "billing", task="http.request", queue="invoices") == "value"
    assert await value_of(sources, "billing", task="mail.send", queue="any") == "value"
    for name, task, queue in (
        ("billing", "http.request", "q"),
        ("billing", "shell.run", "invoices"),
        ("other", "t", "q"),
    ):
        with pytest.raises(NoSecret) as failed:
            await value_of(sources, name, task=task, queue=queue)
        assert (failed.value.kind, failed.value.retryable) == ("SecretNotAllowed", False)
    for wrong in ("billing", "billing:", ":t", "a:t@"):
        with pytest.raises(ValueError, match="must be"):
            parse_grants([wrong])


# -- what is left of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        TOKEN,
        f"Authorization: Bearer {TOKEN}",
        json.dumps({"a": TOKEN}),
        json.dumps({"a": TOKEN}, ensure_ascii=False),
        repr([TOKEN]),
        f"https://example.org/?token={quote(TOKEN, safe='')}",
        base64.b64encode(TOKEN.encode()).decode(),
        base64.b64encode(f"u:{TOKEN}".encode()).decode(),
        base64.urlsafe_b64encode(f"user:{TOKEN}!!".encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_the_forms_that_programs_give_it(said: str) -> None:
    masked = Masker([TOKEN]).text(f"before {said} after")
    assert MASK in masked
    assert "before" in masked
    assert "after" in masked
    assert "s3cr3t" not in masked
    for before in range(3):  # nor can it be read back
        assert base64.b64encode(bytes(before) + TOKEN.encode()).decode()[4:16] not in masked


def test_each_line_of_a_key_is_masked() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----"
    masked = Masker([key]).text("MIIEvQIBADANBgkqhkiG9w0B | AQEFAASCBKcwggSjAgEAAoIB\r\n")
    assert masked == "*** | ***\r\n"


SECRETS = ["abcdef", "abcdefgh", "ababab", "xyzw"]


@given(st.lists(st.sampled_from([*SECRETS, "abc", "def", "a", "x", "yzw", "-"]), max_size=12), st.randoms())
def test_output_is_masked_the_same_however_it_is_split(words: list[str], random: Any) -> None:
    text = "".join(words)
    masker, kept = Masker(SECRETS), Kept()
    sink = MaskingSink(kept, masker, attempt_of("t", {}))
    rest = text
    while rest:
        size = random.randint(1, 4)
        sink.output(attempt_of("t", {}), "stdout", rest[:size])
        rest = rest[size:]
    sink.finish()
    assert kept.text["stdout"] == masker.text(text)
    assert not any(secret in kept.text["stdout"] for secret in SECRETS)


def test_output_that_cannot_be_a_secret_is_passed_on_at_once() -> None:
    kept = Kept()
    sink = MaskingSink(kept, Masker(["hunter22"]), attempt_of("t", {}))
    attempt: Attempt = attempt_of("t", {})
    sink.output(attempt, "stdout", "Hello\n")
    assert kept.text["stdout"] == "Hello\n"
    sink.output(attempt, "stdout", "100 % hunt")
    assert kept.text["stdout"] == "Hello\n100 % "
    sink.output(attempt, "stderr", "ing ")
    sink.output(attempt, "stdout", "ing\n")
    assert kept.text == {"stdout": "Hello\n100 % hunting\n", "stderr": "ing "}


def test_outcomes_are_masked_whole() -> None:
    masker = Masker(["hunter22"])
    result = masker.outcome(Succeeded({"hunter22": ["x hunter22", 1, None, {"a": "hunter22"}]}))
    assert result == Succeeded({"***": ["x ***", 1, None, {"a": "***"}]})
    failed = masker.outcome(Failed("hunter22Error", "got hunter22", "line\nhunter22", retryable=False))
    assert failed == Failed("***Error", "got ***", "line\n***", retryable=False)
