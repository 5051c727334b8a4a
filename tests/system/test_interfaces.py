"""This machine's own addresses, and rules about them."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from tests.isolated import isolated, needs_namespaces
from toxproxy.rules import Machine
from toxproxy.system import interfaces
from toxproxy.system.interfaces import Interfaces


def test_the_addresses_of_this_machine_are_those_it_can_bind() -> None:
    machine = interfaces.look()
    assert ip_address("127.0.0.1") in machine.addresses
    for address in machine.addresses:
        if not address.is_link_local:  # binding one needs the number of its interface
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            with socket.socket(family) as sock:
                sock.bind((str(address), 0))


def test_the_addresses_are_cached_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def look() -> Machine:
        asked.append(None)
        return Machine()

    monkeypatch.setattr(interfaces, "look", look)
    kept, anew = Interfaces(fresh=3600), Interfaces(fresh=0)
    for _ in range(3):
        kept.machine()
    assert len(asked) == 1
    for _ in range(3):
        anew.machine()
    assert len(asked) == 4


@needs_namespaces
async def test_rules_about_this_machine_follow_its_addresses() -> None:
    before, after = await isolated("moved")
    assert set(before.values()) == {"NETWORK_UNREACHABLE"}
    assert after == {
        "203.0.113.9 without self": "NOT_PERMITTED",
        "2001:db8:1:2::5 without self": "NOT_PERMITTED",
        "2001:db8:1:2::6 without self": "NETWORK_UNREACHABLE",
        "203.0.113.9 without private": "203.0.113.9",
        "2001:db8:1:2::5 without private": "NOT_PERMITTED",
        "2001:db8:1:2::6 without private": "NOT_PERMITTED",
        "203.0.113.9 without linklocal": "203.0.113.9",
        "2001:db8:1:2::5 without linklocal": "2001:db8:1:2::5",
        "2001:db8:1:2::6 without linklocal": "NETWORK_UNREACHABLE",
    }
