"""Which URLs can be asked at all. Pure: nothing is resolved, and no address is judged here.

A URL that can never work is refused where it is given, instead of failing later and again with each attempt.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv6Address

HOST_LIMIT_CHARS = 253
LABEL_LIMIT_CHARS = 63
PORTS = range(1, 65_536)

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_HOST_CHARS = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")


def url_problem(url: str) -> str | None:
    """What keeps this from ever being an http or https URL that is asked; None when nothing does."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "must begin with http:// or https://"
    if not url.isprintable() or " " in url:
        return "must not have spaces, control characters or other characters that are not printed"
    authority = re.split(r"[/?#]", url[scheme.end() :], maxsplit=1)[0]
    if "\\" in authority:
        return "must not have a backslash before its path: programs differ about what it means"
    host, bracket, port = _host_and_port(authority.rpartition("@")[2])
    return _port_problem(port) or (_bracket_problem(host) if bracket else _name_problem(host))


def has_userinfo(url: str) -> bool:
    """Whether a user or a password stands in the URL."""
    return "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def ipv4_meant(host: str) -> IPv4Address | None:
    """The address that resolvers take this for (`127.1`, `0x7f.1`, `2130706433`); None for a name."""
    parts = host.removesuffix(".").split(".")
    if not 1 <= len(parts) <= 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *front, last = [int(part, _base(part)) for part in parts]
    except ValueError:
        return None
    if any(number > 255 for number in front) or last >= 256 ** (4 - len(front)):
        return None
    return IPv4Address(sum(number << (24 - 8 * place) for place, number in enumerate(front)) + last)


def _base(part: str) -> int:
    return 16 if part[:2] in ("0x", "0X") else 8 if part.startswith("0") and len(part) > 1 else 10


def _host_and_port(text: str) -> tuple[str, bool, str]:
    """Host, whether it stands in brackets, and port with its colon."""
    if text.startswith("["):
        inside, closed, port = text[1:].partition("]")
        return (inside, True, port) if closed else (text, False, "")
    host, colon, port = text.partition(":")
    return host, False, colon + port


def _port_problem(port: str) -> str | None:
    if port in ("", ":"):  # RFC 3986, 3.2.3: an empty port is the scheme's own
        return None
    digits = port.removeprefix(":")
    if not port.startswith(":") or not (digits.isascii() and digits.isdigit()):
        return "must have a host, and if a port, one in digits after a colon"
    if len(digits.lstrip("0")) > 5 or int(digits) not in PORTS:
        return f"must have a port from {PORTS.start} to {PORTS.stop - 1}"
    return None


def _bracket_problem(host: str) -> str | None:
    if "%" in host:
        return "must not name a network interface: link-local addresses are not asked"
    with suppress(AddressValueError):
        IPv6Address(host)
        return None
    return "must have an IPv6 address within its brackets"


def _name_problem(host: str) -> str | None:
    labels = host.removesuffix(".").split(".")
    if not host:
        return "must have a host"
    if len(host) > HOST_LIMIT_CHARS or any(not 0 < len(label) <= LABEL_LIMIT_CHARS for label in labels):
        return f"must have a host of at most {HOST_LIMIT_CHARS} characters, {LABEL_LIMIT_CHARS} between two dots"
    if not _can_be_name(host):
        return "must have a host of letters, digits, dots, hyphens and underscores, or an IPv6 address in brackets"
    # Resolvers take what ends in a number for an IPv4 address, and no name can end so.
    if _NUMBER.fullmatch(labels[-1]) and ipv4_meant(host) is None:
        return "must have a host that is a name or an address: this is a number that is neither"
    return None


def _can_be_name(host: str) -> bool:
    if host.isascii():
        return _HOST_CHARS.fullmatch(host) is not None
    try:
        host.encode("idna")  # the length was looked at before: the codec's time grows with its square
    except UnicodeError:
        return False
    return True
