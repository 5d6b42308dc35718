"""Which addresses are connected to, whatever form they come in."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from rota_server.adapters.http.addresses import AddressRefused, check_address, check_host

REFUSED = [
    # metadata services
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
    "fd00:a9fe:a9fe::1", "fd00:100::100:200",
    # the same address within others: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    "::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::",
    "64:ff9b:1:0:a9:fea9:fe00:0", "2002:a9fe:a9fe::1", "2001:0:808:808::5601:5601", "2001:0:a9fe:a9fe::f7f7:f7f7",
    "2001:db8::5efe:169.254.169.254", "2a00:1::200:5efe:169.254.169.254", "2002:808:808::5efe:169.254.169.254",
    "::ffff:168.63.129.16", "::ffff:0.0.0.0", "64:ff9b::",
    # nobody's
    "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1", "fe80::5efe:8.8.8.8",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "::1", "fd12::1", "fec0::1", "feff::1", "fec0:0:0:ffff::1",
    "::ffff:10.0.0.1", "::10.0.0.1", "::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1",
    "64:ff9b:1:a00:0:100::", "2002:a00:1::1", "2001:db8::1", "2a00:1::5efe:10.0.0.1", "fd12::5efe:8.8.8.8", "3fff::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "2a00:1450::1", "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8",
    "64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::", "2002:808:808::1", "2a00:1::5efe:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("refuse_private", [False, True])
@pytest.mark.parametrize("address", REFUSED)
def test_metadata_and_link_local_addresses_are_refused_in_every_mode_and_form(
    address: str, *, refuse_private: bool
) -> None:
    with pytest.raises(AddressRefused):
        check_address(ip_address(address), refuse_private=refuse_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_where_that_is_wished_in_every_form(address: str) -> None:
    check_address(ip_address(address), refuse_private=False)
    with pytest.raises(AddressRefused):
        check_address(ip_address(address), refuse_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_connected_to_in_every_form(address: str) -> None:
    check_address(ip_address(address), refuse_private=True)


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.254.43518", "fd00:ec2::23", "Metadata.GOOG."])
def test_a_host_that_needs_no_resolving_is_judged_at_once(host: str) -> None:
    with pytest.raises(AddressRefused):
        check_host(host, refuse_private=False)
    check_host("example.org", refuse_private=True)
    check_host("127.1", refuse_private=False)
