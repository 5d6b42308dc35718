"""`email.send`: a message through the configured SMTP server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any

import aiosmtplib

from rota_server.apps.executor.attempts import Attempt
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.domain.builtin.tasks import EmailSend

ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """The server that mail goes through; `tls`: `none`, `starttls` or `tls`."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: str = "starttls"
    sender: str | None = None


async def send_email(arguments: EmailSend, attempt: Attempt, smtp: SmtpSettings | None) -> dict[str, Any]:
    """Who accepted it. The Message-ID follows from the job, so that a repeated message can be recognised."""
    if smtp is None:
        raise TaskFailed("NotConfigured", "this executor has no SMTP server (ROTA_SMTP_HOST)", retryable=False)
    sender = arguments.from_ or smtp.sender
    if sender is None:
        raise TaskFailed("NotConfigured", "neither the job nor ROTA_SMTP_FROM says who sends it", retryable=False)
    message = _message(arguments, attempt, sender)
    check_header(message)
    try:
        refused, answer = await aiosmtplib.send(
            message,
            sender=sender,
            recipients=arguments.recipients(),
            hostname=smtp.host,
            port=smtp.port,
            username=smtp.username,
            password=smtp.password,
            use_tls=smtp.tls == "tls",
            start_tls=smtp.tls == "starttls",
            timeout=ANSWER_SECONDS,
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [r.code for r in error.recipients]
        raise TaskFailed("RecipientsRefused", str(error)[:500], retryable=any(c < 500 for c in codes)) from error
    except aiosmtplib.SMTPResponseException as error:
        raise TaskFailed("SmtpError", f"{error.code} {error.message}"[:500], retryable=error.code < 500) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise TaskFailed(type(error).__name__, f"{smtp.host}: {error}"[:500]) from error
    return {
        "message_id": message["Message-ID"],
        "answer": answer[:500],
        "refused": {who: why.message[:200] for who, why in refused.items()},
    }


def check_header(message: EmailMessage) -> None:
    """Raise TaskFailed when what is sent would have other headers than those that were set.

    The email package decodes what looks encoded and writes what comes out as it is (CPython before 3.12.4), so that a
    text could end one header and begin another. Such texts are refused before; this finds what is not thought of.
    """
    head = message.as_bytes(policy=SMTP).partition(b"\r\n\r\n")[0]
    lines = re.split(rb"\r\n|\r|\n", head)
    names = [line.partition(b":")[0].decode(errors="replace") for line in lines if line[:1] not in (b" ", b"\t")]
    if sorted(names) != sorted(message.keys()):
        raise TaskFailed("InvalidMessage", "a value in the header would become a header of its own", retryable=False)


def _message(arguments: EmailSend, attempt: Attempt, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(arguments.to if isinstance(arguments.to, list) else [arguments.to])
    if arguments.cc:
        message["Cc"] = ", ".join(arguments.cc)
    if arguments.reply_to is not None:
        message["Reply-To"] = arguments.reply_to
    message["Subject"] = arguments.subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{attempt.job_id}@rota>"
    if arguments.text is not None:
        message.set_content(arguments.text)
        if arguments.html is not None:
            message.add_alternative(arguments.html, subtype="html")
    else:
        message.set_content(arguments.html or "", subtype="html")
    return message
