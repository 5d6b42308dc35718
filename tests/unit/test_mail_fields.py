"""What may stand in the header of a message."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rota_server.apps.executor.builtin.email_send import check_header
from rota_server.apps.executor.builtin.errors import TaskFailed
from rota_server.domain.builtin.mail_fields import address_problem, subject_problem
from rota_server.domain.builtin.tasks import check_arguments
from rota_server.domain.errors import Rejected

LETTER: dict[str, Any] = {"to": "a@example.org", "subject": "s", "text": "hello"}
BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\x00\x07\x1b\x7f"
DISGUISES = [
    "=?utf-8?q?x=0D=0ABcc:_e@example.org?=",
    "hello =?utf-8?q?x=0D=0ABcc:_e@example.org?=",
    "hello=?UTF-8?B?DQpCY2M6IGVAZXhhbXBsZS5vcmc=?=you",
    "=?utf-7?q?+AA0ACg-Bcc:_e@example.org?=",
    "=?unicode_escape?q?=5Cr=5CnBcc:_e@example.org?=",
    "=?utf-8*en?q?=0D=0A?=",
    "=?utf-8?Q?=00?=",
    "=?utf-8?q?a b=0A?=",
]


@pytest.mark.parametrize("subject", [*DISGUISES, *(f"a{c}b" for c in BREAKS)])
def test_a_subject_that_could_be_another_header_is_refused_at_submission(subject: str) -> None:
    with pytest.raises(Rejected) as refused:
        check_arguments("email.send", {**LETTER, "subject": subject})
    assert str(refused.value.field).startswith("args.subject")


@pytest.mark.parametrize(
    "address",
    [
        "=?utf-8?q?boss=40bank.example=3E_=3C?=@evil.example",
        "=?utf-8?b?Ym9zcw==?=@evil.example",
        "a@=?utf-8?q?b?=",
        "boss\u202e@evil.example",
        "boss\u200b@evil.example",
        '"boss"@evil.example',
        "boss(the)@evil.example",
        "a@b@evil.example",
        "a:b@evil.example",
        "a\\@evil.example",
        "a;b@evil.example",
        "a@b..example",
        "a@example.",
        "a@[evil]",
        "a@[fe80::1%x]",
        "a@b/c",
        "Ann <a@example.org>",
        "@example.org",
        "a@",
        "a",
        *(f"a{c}b@example.org" for c in BREAKS + " \t\xa0\u3000"),
    ],
)
@pytest.mark.parametrize("field", ["from", "to", "cc", "bcc", "reply_to"])
def test_a_disguised_address_is_refused_in_every_field_at_submission(field: str, address: str) -> None:
    given: Any = [address] if field in ("cc", "bcc") else address
    with pytest.raises(Rejected) as refused:
        check_arguments("email.send", {**LETTER, field: given})
    assert str(refused.value.field).startswith(f"args.{field}")


@pytest.mark.parametrize(
    "address",
    [
        "a@example.org",
        "a.b+c@example.org",
        "a..b@example.org",
        "ü@bücher.example",
        "a@[127.0.0.1]",
        "a@[IPv6:::1]",
        "root@localhost",
    ],
)
def test_usual_addresses_are_taken(address: str) -> None:
    assert address_problem(address) is None


@pytest.mark.parametrize("subject", ["", "Grüße\tan alle", "what=?maybe?=", "1 =? 2", "👩\u200d🚀", "\u200f\u05d0"])
def test_usual_subjects_are_taken(subject: str) -> None:
    assert subject_problem(subject) is None


@given(st.text(alphabet='=?qQbB_utf-8 \t:ABab0D\r\n\x85@<>,"\u2028é', max_size=60))
@example("=?utf-8?q?x=0D=0A?=")
def test_a_subject_that_is_taken_arrives_as_it_is_in_one_header(subject: str) -> None:
    if subject_problem(subject) is not None:
        return
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "a@example.org"
    message.set_content("hello")
    check_header(message)
    sent = email.message_from_bytes(message.as_bytes(policy=email.policy.SMTP), policy=email.policy.default)
    assert sent.keys() == message.keys()
    assert " ".join(str(sent["Subject"]).split()) == " ".join(subject.split())


def test_a_header_that_would_become_two_is_found_before_it_is_sent() -> None:
    message = EmailMessage()
    message["Subject"] = DISGUISES[0]  # as libraries decode it
    message.set_content("hello")
    with pytest.raises(TaskFailed) as failed:
        check_header(message)
    assert not failed.value.retryable
