"""Targets: what a router answers when it is asked for a port mapping."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address

from toxproxy.mapping import igd, natpmp, pcp
from toxproxy.mapping.announcements import parse_announcement
from toxproxy.mapping.grant import Grant, MappingError

PORT = 33445
NONCE = b"toxproxyfuzz"
_BASE = igd.Url(IPv4Address("192.168.1.1"), 80, "/a/b.xml")


def pcp_answer(data: bytes) -> None:
    """A datagram is a plausible grant by PCP, a refusal, or ignored."""
    parse_announcement(data)
    with suppress(MappingError):
        pcp.parse_released(data, NONCE, PORT)
        if (grant := pcp.parse_grant(data, NONCE, PORT)) is not None:
            assert NONCE in data
            _check(grant)


def nat_pmp_answer(data: bytes) -> None:
    """A datagram is an answer of NAT-PMP, a refusal, or ignored."""
    for parse in (natpmp.parse_address, lambda data: natpmp.parse_mapped(data, PORT)):
        with suppress(MappingError):
            if (answer := parse(data)) is not None:
                assert 0 <= answer.epoch < 1 << 32


def upnp_answer(data: bytes) -> None:
    """An answer to a search, a description and a SOAP answer are read, or refused; all lead to the router."""
    if (url := igd.parse_found(data)) is not None:
        _check_url(url)
    with suppress(MappingError):
        services = igd.parse_services(data, _BASE)
        assert 0 < len(services) <= 4
        for service in services:
            assert service.control.host == _BASE.host
            _check_url(service.control)
            igd.soap(service, "GetExternalIPAddress", {})
    with suppress(MappingError):
        igd.parse_address(igd.parse_soap(data, "GetExternalIPAddress"))


def _check(grant: Grant) -> None:
    assert 0 < grant.port < 65536
    assert 0 < grant.lifetime <= 86_400
    assert not grant.address.is_multicast
    assert not grant.address.is_loopback


def _check_url(url: igd.Url) -> None:
    assert 0 < url.port < 65536
    assert url.path.startswith("/")
    assert all("!" <= character <= "~" for character in url.path)
