"""`email.send` through a real SMTP server, `event.publish` into a real log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from rota_server.adapters.group_commit import GroupCommit
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.event_log import PostgresEventLog
from rota_server.apps.executor.builtin.email_send import SmtpSettings
from rota_server.apps.executor.builtin.runner import BuiltinTasks
from rota_server.apps.executor.publishing import EventPublisher
from rota_server.domain.ids import Position
from tests.integration.builtin_tasks import Kept, attempt_of, failure, nowhere, run, success


class Mail:
    """What a small SMTP server got; `refuse` maps a recipient to the answer that refuses it."""

    def __init__(self) -> None:
        self.port = 0
        self.recipients: list[str] = []
        self.content = ""
        self.refuse: dict[str, str] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def answer(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        answer("220 mail.test")
        while line := (await reader.readline()).decode().strip():
            word = line.upper()
            if word.startswith("RCPT TO:"):
                address = line.partition("<")[2].partition(">")[0]
                refusal = self.refuse.get(address)
                if refusal is None:
                    self.recipients.append(address)
                answer(refusal or "250 fine")
            elif word == "DATA":
                answer("354 go on")
                await writer.drain()
                self.content = (await reader.readuntil(b"\r\n.\r\n")).decode()
                answer("250 accepted as 42")
            elif word == "QUIT":
                answer("221 bye")
                break
            else:
                answer("250 mail.test")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def smtp_server() -> AsyncIterator[Mail]:
    mail = Mail()
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0)
    mail.port = server.sockets[0].getsockname()[1]
    yield mail
    server.close()


def smtp(port: int) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=port, tls="none", sender="rota@example.org")


LETTER: dict[str, Any] = {"to": "a@example.org", "bcc": ["b@example.org"], "subject": "Grüße", "text": "hello"}


async def test_a_message_goes_through_the_configured_server_and_is_named_after_its_job() -> None:
    async with smtp_server() as mail:
        attempt = attempt_of("email.send", LETTER)
        tasks = BuiltinTasks(nowhere, smtp=smtp(mail.port))
        result = success(await tasks.run(attempt, Kept()))
        await tasks.close()
    assert result["message_id"] == f"<{attempt.job_id}@rota>"
    assert "accepted as 42" in result["answer"]
    assert mail.recipients == ["a@example.org", "b@example.org"]
    assert "From: rota@example.org" in mail.content
    assert "hello" in mail.content
    assert "b@example.org" not in mail.content


@pytest.mark.parametrize("answer", ["550 nobody", "451 later"])
async def test_a_refused_recipient_fails_for_good_and_a_busy_server_for_now(answer: str) -> None:
    async with smtp_server() as mail:
        mail.refuse = {"a@example.org": answer}
        failed = failure(await run("email.send", {**LETTER, "bcc": []}, smtp=smtp(mail.port)))
    assert (failed.type, failed.retryable) == ("RecipientsRefused", answer.startswith("4"))


async def test_of_several_recipients_the_refused_ones_are_named() -> None:
    async with smtp_server() as mail:
        mail.refuse = {"b@example.org": "550 nobody"}
        result = success(await run("email.send", LETTER, smtp=smtp(mail.port)))
    assert (mail.recipients, list(result["refused"])) == (["a@example.org"], ["b@example.org"])


async def test_a_message_without_a_server_fails_for_good() -> None:
    failed = failure(await run("email.send", LETTER))
    assert (failed.type, failed.retryable) == ("NotConfigured", False)


async def test_an_event_is_published_once_however_often_its_job_is_tried(postgres_url: str) -> None:
    database = Database(postgres_url)
    log = PostgresEventLog(database)
    try:
        publisher = EventPublisher(GroupCommit(log))
        attempt = attempt_of("event.publish", {"type": "t", "source": "/s", "data": {"a": 1}})
        tasks = BuiltinTasks(publisher.publish)
        first, second = [success(await tasks.run(attempt, Kept())) for _ in range(2)]
        await tasks.close()
        recorded = await log.read(Position(0), 10)
    finally:
        await log.close()
        await database.close()
    assert (first["id"], first["repeated"], second["repeated"]) == (str(attempt.job_id), False, True)
    (published,) = recorded
    assert published.position == first["position"]
    assert UUID(str(published.meta.causation_id)) == attempt.job_id
