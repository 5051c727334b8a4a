"""Where connections may go."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.address import Target, parse_host
from toxproxy.rules import Rules, parse_rule


def rules(permit: str = "", deny: str = "") -> Rules:
    return Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))


def allows(judged: Rules, host: str, port: int = 80, address: str | None = None) -> bool:
    return judged.allows(Target(host, port), ip_address(address) if address else None)


def test_without_rules_everything_is_allowed() -> None:
    assert allows(Rules(), "example.org")
    assert allows(Rules(), "127.0.0.1", address="127.0.0.1")
    assert not Rules().needs_addresses


def test_with_a_permit_everything_else_is_refused() -> None:
    only = rules(permit="127.0.0.1:8181")
    assert allows(only, "127.0.0.1", 8181)
    assert not allows(only, "127.0.0.1", 8182)
    assert not allows(only, "127.0.0.2", 8181)
    assert not allows(only, "localhost", 8181)


def test_a_deny_is_stronger_than_a_permit() -> None:
    both = rules(permit="*.example.org:*", deny="10.0.0.0/8:* bad.example.org:*")
    assert allows(both, "good.example.org", address="192.0.2.1")
    assert not allows(both, "good.example.org", address="10.1.2.3")
    assert not allows(both, "bad.example.org", address="192.0.2.1")


def test_a_name_is_permitted_by_the_address_it_leads_to() -> None:
    network = rules(permit="10.0.0.0/8:*")
    assert allows(network, "db.example", address="10.1.2.3")
    assert not allows(network, "db.example", address="192.0.2.1")
    assert not allows(network, "db.example")


def test_each_address_of_a_name_is_judged_by_itself() -> None:
    no_loopback = rules(deny="127.0.0.0/8:*")
    assert allows(no_loopback, "rebound.example", address="192.0.2.1")
    assert not allows(no_loopback, "rebound.example", address="127.0.0.1")


@pytest.mark.parametrize(
    ("rule", "needed"), [("*:*", False), ("*.org:80", False), ("127.0.0.1:80", True), ("[fd00::/8]:*", True)]
)
def test_only_rules_for_addresses_need_addresses(rule: str, needed: bool) -> None:
    assert rules(permit=rule).needs_addresses is needed
    assert rules(deny=rule).needs_addresses is needed


@pytest.mark.parametrize("name", ["a.example.org", "A.EXAMPLE.ORG", "a.example.org.", "b.a.example.org"])
def test_a_wildcard_is_every_name_below(name: str) -> None:
    assert allows(rules(permit="*.Example.org.:*"), name)


@pytest.mark.parametrize("name", ["example.org", "aexample.org", "a.example.org.evil", "a.example.com"])
def test_a_wildcard_is_nothing_beside(name: str) -> None:
    assert not allows(rules(permit="*.example.org:*"), name)


def test_a_wildcard_within_a_label() -> None:
    assert allows(rules(permit="mail*.example.org:*"), "mail2.example.org")
    assert not allows(rules(permit="mail*.example.org:*"), "www.example.org")


def test_a_name_rule_is_the_name_alone_in_any_case_and_script() -> None:
    assert allows(rules(permit="Bücher.Example.:*"), parse_host("bücher.example"))
    assert not allows(rules(permit="bücher.example:*"), "www.xn--bcher-kva.example")


def test_a_star_is_every_host() -> None:
    for host in ("example.org", "127.0.0.1", "::1"):
        assert allows(rules(permit="*:80"), host, 80)
        assert not allows(rules(permit="*:80"), host, 81)


def test_a_wildcard_for_names_is_no_address() -> None:
    assert not allows(rules(permit="*.*:*"), "127.0.0.1", address="127.0.0.1")


def test_ports_from_to() -> None:
    judged = rules(permit="*:8000-8100")
    assert [port for port in (1, 7999, 8000, 8100, 8101) if allows(judged, "a", port)] == [8000, 8100]


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("127.0.0.0/8:*", "::ffff:127.0.0.1"),
        ("10.0.0.0/8:*", "64:ff9b::10.1.2.3"),
        ("[64:ff9b::/96]:*", "64:ff9b::10.1.2.3"),
        ("127.0.0.1:*", "0.0.0.0"),
        ("0.0.0.0:*", "0.0.0.0"),
        ("[::1]:*", "::"),
        ("[::]:*", "::"),
        ("127.0.0.1:*", "::ffff:0.0.0.0"),
        ("[::ffff:127.0.0.0/104]:*", "127.0.0.1"),
        ("[::ffff:127.0.0.1]:*", "::ffff:127.0.0.1"),
        ("[fe80::/10]:*", "fe80::1%eth0"),
    ],
)
def test_an_address_is_denied_however_it_is_written(rule: str, address: str) -> None:
    assert not allows(rules(deny=rule), address)
    assert not allows(rules(deny=rule), "name.example", address=address)
    assert allows(rules(permit=rule), address)


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("[::/0]:*", "::ffff:127.0.0.1"),
        ("[::/0]:*", "127.0.0.1"),
        ("0.0.0.0/0:*", "::1"),
        ("192.0.2.0/24:*", "2002:c000:201::1"),
    ],
)
def test_the_two_families_are_told_apart(rule: str, address: str) -> None:
    assert not allows(rules(permit=rule), address)


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_network_holds_its_own_address(address: object, bits: int) -> None:
    text = str(address)
    assert allows(rules(permit=f"[{text}]:*" if ":" in text else f"{text}:*"), text)


@given(st.text() | st.text(alphabet="[]:/*.-0123456789abf%", max_size=30))
def test_whatever_is_no_rule_is_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert len(parse_rule(text).ports) >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "expected host:port (IPv6 in brackets, * for any port), found 'a'"),
        ("::1:80", "expected host:port (IPv6 in brackets, * for any port), found '::1:80'"),
        ("a:", "expected a port from 1 to 65535, found ''"),
        ("a:0", "expected a port from 1 to 65535, found '0'"),
        ("a:2-1", "expected the lower port first, found '2-1'"),
        (":80", "expected a host name or an IP address, found ''"),
        ("127.1:80", "expected an IPv4 address as four decimal numbers, found '127.1'"),
        ("10.0.*:80", "expected a network such as 10.0.0.0/8, found '10.0.*'"),
        ("1" * 100_000 + "a:80", f"expected a host name or an IP address, found '{'1' * 60}'…"),
        ("*" + "1" * 100_000 + "a:80", f"expected a name such as *.example.org, found '*{'1' * 59}'…"),
        ("*.1:80", "expected a network such as 10.0.0.0/8, found '*.1'"),
        ("*a.1:80", "expected a name such as *.example.org, found '*a.1'"),
        ("*.bücher.example:80", "expected a name with * in its ASCII form (xn--…), found '*.bücher.example'"),
        ("10.0.0.1/8:80", "expected the network's own address, 10.0.0.0/8, found '10.0.0.1/8'"),
        ("10.0.0.0/33:80", "expected an IPv4 network such as 10.0.0.0/8, found '10.0.0.0/33'"),
        ("a/8:80", "expected an IPv4 network such as 10.0.0.0/8, found 'a/8'"),
        ("[10.0.0.0/8]:80", "expected an IPv6 network in brackets, found '10.0.0.0/8'"),
        ("[*]:80", "expected an IPv6 network in brackets, found '*'"),
        ("[fe80::1%eth0]:80", "expected an address without a zone, found 'fe80::1%eth0'"),
    ],
)
def test_errors_say_what_was_expected_and_found(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        parse_rule(text)
    assert str(caught.value) == message
