"""The types of CloudEvents 1.0.2: which texts are strings, URIs, media types and instants to it. Pure.

Sources: the CloudEvents specification 1.0.2, "Type System"; RFC 3986, appendix A; RFC 2045, section 5.1; RFC 3339.
"""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import AddressValueError, IPv6Address

ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,64}")
INTEGERS = range(-(2**31), 2**31)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PCT = "%[0-9A-Fa-f]{2}"
_PCHAR = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_PCT})"
_NO_COLON = rf"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{_PCT})"
_USER = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|{_PCT})*"
_NAME = rf"(?:[A-Za-z0-9._~!$&'()*+,;=-]|{_PCT})*"
_LITERAL = r"\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
_AUTHORITY = rf"//(?:{_USER}@)?(?:{_LITERAL}|{_NAME})(?::[0-9]*)?(?:/{_PCHAR}*)*"
_ABSOLUTE = rf"/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?"
_QUERY = rf"(?:\?(?:{_PCHAR}|[/?])*)?"
_FRAGMENT = rf"(?:#(?:{_PCHAR}|[/?])*)?"
_ABSOLUTE_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}|{_ABSOLUTE}|{_PCHAR}+(?:/{_PCHAR}*)*)?{_QUERY}")
_URI = re.compile(_ABSOLUTE_URI.pattern + _FRAGMENT)
_RELATIVE = re.compile(rf"(?:{_AUTHORITY}|{_ABSOLUTE}|{_NO_COLON}+(?:/{_PCHAR}*)*)?{_QUERY}{_FRAGMENT}")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - RFC 2045's word for it
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*"'
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*[ \t]*;?")
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def string_problem(text: str) -> str | None:
    """Why the text is no String to CloudEvents, None when it is one."""
    control = _CONTROL.search(text)
    if control is not None:
        return f"contains the control character U+{ord(control[0]):04X}"
    for char in text:
        code = ord(char)
        if 0xD800 <= code <= 0xDFFF:
            return "contains a lone surrogate"
        if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
            return f"contains the noncharacter U+{code:04X}"
    return None


def is_uri_reference(text: str) -> bool:
    """Whether it is a URI-reference (RFC 3986, 4.1), which may be relative."""
    return _fits(_URI, text) or _fits(_RELATIVE, text)


def is_absolute_uri(text: str) -> bool:
    """Whether it is an absolute URI (RFC 3986, 4.3): with a scheme, without a fragment."""
    return _fits(_ABSOLUTE_URI, text)


def is_media_type(text: str) -> bool:
    """Whether it is a media type with or without parameters."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def parse_timestamp(text: str) -> datetime:
    """The instant; what is finer than a microsecond is left out. Raises ValueError."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("must be an instant in RFC 3339 with an offset, such as 2027-01-01T09:00:00Z")
    day, hour, minute, second, fraction, offset = found.groups()
    if second == "60":
        raise ValueError("is a leap second, which cannot be kept")
    fraction = f"{fraction or '0':0<6.6}"
    return datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}.{fraction}{offset.upper()}")


def _fits(pattern: re.Pattern[str], text: str) -> bool:
    found = pattern.fullmatch(text)
    if found is None:
        return False
    if found["ipv6"] is not None:
        try:
            IPv6Address(found["ipv6"])
        except AddressValueError:
            return False
    return True
