"""The IPv4 addresses that IPv6 addresses stand for. A gateway or tunnel on the way would lead to those.

Knows the forms with a fixed place in the address. A network's own NAT64 prefix cannot be told from other addresses.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

Address = IPv4Address | IPv6Address

TRANSLATED = (
    IPv6Network("::/96"),  # IPv4-compatible (RFC 4291)
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped (RFC 4291)
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 2765)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
)
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""For translators within a network (RFC 8215), which may use any length of prefix in it."""

SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""How the lower half of an address begins (RFC 5214)."""

NOBODY = IPv4Network("0.0.0.0/8")
ITSELF = (IPv6Address("::"), IPv6Address("::1"))
"""Stand in `::/96` and are no IPv4 addresses."""


class Meant(NamedTuple):
    """`embedded`: all IPv4 addresses within. `destinations`: where packets may come to, the address itself included."""

    embedded: tuple[IPv4Address, ...]
    destinations: tuple[Address, ...]


def meant(address: Address) -> Meant:
    """What the address stands for."""
    if isinstance(address, IPv4Address) or address in ITSELF:
        return Meant((), (address,))
    number = int(address)
    if any(address in net for net in TRANSLATED):
        return Meant((_ipv4(number),), (_ipv4(number),))
    if address in LOCAL_NAT64:
        found = _of_local_nat64(number)
        return Meant(found, found)
    tunnelled = _tunnelled(address)
    return Meant(tunnelled, (address, *tunnelled))


def _tunnelled(address: IPv6Address) -> tuple[IPv4Address, ...]:
    number = int(address)
    found: tuple[IPv4Address, ...] = ()
    if address in SIX_TO_FOUR:
        found = (_ipv4(number >> 80),)
    elif address in TEREDO:
        found = (_ipv4(number >> 64), _ipv4(~number))  # the server; the client, stored inverted
    if (number >> 32) & 0xFFFF_FFFF in ISATAP:
        found += (_ipv4(number),)
    return found


def _of_local_nat64(number: int) -> tuple[IPv4Address, ...]:
    """What it may stand for, by the length of the prefix (RFC 6052, 2.2): with a short one the rest is zero.

    Read with the wrong length, zeros come first: 0.0.0.0/8 counts only when nothing else is left.
    """
    found = []
    for prefix_bits in (48, 56, 64):
        front = 64 - prefix_bits  # bits of the IPv4 address before the octet in the middle, which is zero
        rest = 128 - 72 - (32 - front)
        if (number >> 56) & 0xFF == 0 and number & ((1 << rest) - 1) == 0:
            upper = (number >> 64) & ((1 << front) - 1)
            lower = (number >> rest) & ((1 << (32 - front)) - 1)
            found.append(_ipv4(upper << (32 - front) | lower))
    found.append(_ipv4(number))
    return tuple(one for one in found if one not in NOBODY) or (IPv4Address(0),)


def _ipv4(number: int) -> IPv4Address:
    return IPv4Address(number & 0xFFFF_FFFF)
