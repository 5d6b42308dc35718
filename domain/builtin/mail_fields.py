"""What may stand in the header of a message: subjects and addresses as plain text. Pure.

A header is markup: libraries and mail programs decode what looks encoded (RFC 2047), and what comes out may be another
header or another sender. So nothing that looks encoded is taken; whoever means a character writes the character.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?")
_ATEXT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.")
_DOMAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_BREAKS = frozenset("\u2028\u2029")


def subject_problem(subject: str) -> str | None:
    """What keeps this from being a subject; None when nothing does."""
    if any(c in _BREAKS or (not c.isprintable() and c != "\t" and ord(c) < 0xA0) for c in subject):
        return "must not have line breaks or other control characters"
    if _ENCODED_WORD.search(subject) is not None:
        return "must be plain text, not an encoded word (=?charset?q?...?=): write the characters themselves"
    return None


def address_problem(address: str) -> str | None:
    """What keeps this from being the address of a mailbox, without a name; None when nothing does."""
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        return "must be an address such as a@example.org"
    if not address.isprintable() or not all(c in _ATEXT or not c.isascii() for c in local):
        return "must have an address of plain characters before the @: no spaces, quotes, brackets, commas or controls"
    if "=?" in address:
        return "must be plain text, not an encoded word (=?charset?q?...?=)"
    if not _is_domain(domain):
        return "must have the name of a host after the @"
    return None


def _is_domain(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        return _is_address(text[1:-1].removeprefix("IPv6:"))
    return all(c in _DOMAIN or not c.isascii() for c in text) and all(text.split("."))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
