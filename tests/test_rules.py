"""The rules of permit and deny: which targets connections may reach."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.address import OpenUdpTarget, Target, UdpTarget, parse_host
from toxproxy.rules import NETWORKS, HostSet, Machine, Rules, Verdict, parse_rule, parse_rules

SOMEWHERE = "192.0.2.77"  # the address of a name where the test does not depend on it
HOME = Machine(
    frozenset(map(ip_address, ["192.168.1.5", "203.0.113.9", "2001:db8:1:2::5", "fe80::5"])),
    (IPv6Network("2001:db8:1:2::/64"),),
)


def rules(permit: str = "*:*", deny: str = "") -> Rules:
    return Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))


def allows(judged: Rules, host: str, port: int = 80, address: str | None = None) -> bool:
    try:
        meant = ip_address(address or host)
    except ValueError:
        meant = ip_address(SOMEWHERE)
    return judged.allows(Target(host, port), meant, HOME)


def test_without_a_permit_nothing_is_allowed() -> None:
    assert not allows(Rules(), "example.org")
    assert not allows(Rules(), "127.0.0.1")
    assert Rules().judge_name(Target("example.org", 80)) is Verdict.DENIED


def test_a_permit_for_everything_does_not_permit_link_local_addresses() -> None:
    for host in ("example.org", "127.0.0.1", "::1", "10.0.0.1", "fd00::1"):
        assert allows(rules(), host)
    assert not allows(rules(), "169.254.169.254")


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


def test_a_name_is_permitted_by_a_rule_for_its_address() -> None:
    network = rules(permit="10.0.0.0/8:*")
    assert allows(network, "db.example", address="10.1.2.3")
    assert not allows(network, "db.example", address="192.0.2.1")


def test_each_address_of_a_name_is_judged_by_itself() -> None:
    no_loopback = rules(deny="127.0.0.0/8:*")
    assert allows(no_loopback, "rebound.example", address="192.0.2.1")
    assert not allows(no_loopback, "rebound.example", address="127.0.0.1")


@pytest.mark.parametrize(
    ("permit", "deny", "verdict"),
    [
        ("*:*", "", Verdict.PERMITTED),
        ("*.org:80", "", Verdict.PERMITTED),
        ("A.ORG.:80", "", Verdict.PERMITTED),
        ("*:*", "10.0.0.0/8:81", Verdict.PERMITTED),
        ("*:*", "10.0.0.0/8:*", Verdict.UNLESS_DENIED),
        ("*.org:* 10.0.0.0/8:*", "self:*", Verdict.UNLESS_DENIED),
        ("127.0.0.1:80", "", Verdict.IF_PERMITTED),
        ("[fd00::/8]:80-90", "[::1]:*", Verdict.IF_PERMITTED),
        ("private:*", "b.org:*", Verdict.IF_PERMITTED),
        ("127.0.0.1:22", "", Verdict.DENIED),
        ("*.com:* *:81 10.0.0.0/8:443", "", Verdict.DENIED),
        ("*:*", "a.org:*", Verdict.DENIED),
        ("127.0.0.1:*", "*:80", Verdict.DENIED),
    ],
)
@pytest.mark.parametrize("name", ["a.org", "A.Org."])
def test_what_the_rules_decide_about_a_name_before_its_look_up(
    permit: str, deny: str, verdict: Verdict, name: str
) -> None:
    assert rules(permit, deny).judge_name(Target(name, 80)) is verdict


ANY_RULES = st.lists(
    st.sampled_from(
        ["*", "a.org", "*.org", "b.org", "10.0.0.0/8", "192.0.2.1", "[::1]", *[s.value for s in HostSet]]
    ).flatmap(lambda host: st.sampled_from(["80", "79-81", "443", "*"]).map(lambda ports: f"{host}:{ports}")),
    max_size=4,
).map(" ".join)


@given(
    ANY_RULES, ANY_RULES, st.sampled_from(["10.0.0.1", "192.0.2.1", "::1", "127.0.0.1", "2001:db8:1:2::5"])
)
def test_the_decision_about_a_name_holds_for_each_of_its_addresses(
    permit: str, deny: str, address: str
) -> None:
    judged = rules(permit, deny)
    verdict, allowed = judged.judge_name(Target("a.org", 80)), allows(judged, "a.org", 80, address)
    assert allowed or verdict is not Verdict.PERMITTED
    assert not allowed or verdict is not Verdict.DENIED


@pytest.mark.parametrize("name", ["a.example.org", "A.EXAMPLE.ORG", "a.example.org.", "b.a.example.org"])
def test_a_wildcard_matches_every_name_below(name: str) -> None:
    assert allows(rules(permit="*.Example.org.:*"), name)


@pytest.mark.parametrize("name", ["example.org", "aexample.org", "a.example.org.evil", "a.example.com"])
def test_a_wildcard_matches_no_other_name(name: str) -> None:
    assert not allows(rules(permit="*.example.org:*"), name)


def test_a_wildcard_within_a_label() -> None:
    assert allows(rules(permit="mail*.example.org:*"), "mail2.example.org")
    assert not allows(rules(permit="mail*.example.org:*"), "www.example.org")


def test_a_name_rule_matches_exactly_the_name_in_any_case_and_script() -> None:
    assert allows(rules(permit="Bücher.Example.:*"), parse_host("bücher.example"))
    assert not allows(rules(permit="bücher.example:*"), "www.xn--bcher-kva.example")


def test_a_star_matches_every_host() -> None:
    for host in ("example.org", "127.0.0.1", "::1"):
        assert allows(rules(permit="*:80"), host, 80)
        assert not allows(rules(permit="*:80"), host, 81)


def test_a_wildcard_for_names_matches_no_address() -> None:
    assert not allows(rules(permit="*.*:*"), "127.0.0.1", address="127.0.0.1")


def test_a_range_of_ports() -> None:
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
        ("169.254.0.0/16:*", "64:ff9b::169.254.169.254"),
    ],
)
def test_an_address_is_denied_however_it_is_written(rule: str, address: str) -> None:
    assert not allows(rules(deny=rule), address)
    assert not allows(rules(deny=rule), "name.example", address=address)
    assert allows(rules(permit=rule), address)


# Sets


@pytest.mark.parametrize(
    ("word", "addresses"),
    [
        ("loopback", ["127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]),
        ("private", ["10.255.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1", "100.64.0.1"]),
        ("private", ["100.127.255.254", "192.0.0.192", "198.19.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]),
        ("private", ["fc00::1", "fdff::1", "fec0::1", "64:ff9b:1::1", "2001:db8:1:2:ffff::1"]),
        ("linklocal", ["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1", "64:ff9b::169.254.169.254"]),
        ("self", ["127.0.0.1", "::1", "0.0.0.0", "::", "192.168.1.5", "203.0.113.9", "2001:db8:1:2::5"]),
        ("self", ["::ffff:203.0.113.9", "64:ff9b::203.0.113.9"]),
    ],
)
def test_a_set_matches_its_addresses_in_every_spelling(word: str, addresses: list[str]) -> None:
    for address in addresses:
        assert not allows(rules(deny=f"{word}:*"), address)
        assert not allows(rules(deny=f"{word}:*"), "name.example", address=address)
        assert allows(rules(permit=f"{word}:80"), address)
        assert not allows(rules(permit=f"{word}:81"), address)


@pytest.mark.parametrize("word", ["loopback", "private", "linklocal", "self"])
@pytest.mark.parametrize(
    "address", ["192.0.2.1", "203.0.113.10", "100.128.0.1", "172.32.0.1", "2001:db8:1:3::1"]
)
def test_a_set_matches_no_other_address(word: str, address: str) -> None:
    assert allows(rules(deny=f"{word}:*"), address)
    assert not allows(rules(permit=f"{word}:*"), address)


def test_the_local_network_can_be_permitted_without_this_machine() -> None:
    for address in ("127.0.0.1", "0.0.0.0", "::1", "169.254.1.1"):
        assert not allows(rules(permit="private:*"), address)
    lan = rules(permit="private:*", deny="self:*")
    assert [allows(lan, address) for address in ("192.168.1.6", "192.168.1.5")] == [True, False]
    assert [allows(lan, address) for address in ("2001:db8:1:2::6", "2001:db8:1:2::5")] == [True, False]


@pytest.mark.parametrize("word", ["self", "SELF", "Private"])
def test_a_set_is_named_in_any_case_and_with_a_dot_it_is_a_host_name(word: str) -> None:
    assert isinstance(parse_rule(f"{word}:*").host, HostSet)
    assert parse_rule(f"{word}.:*").host == word.lower()
    assert allows(rules(permit=f"{word}.:*"), word)


def test_rules_about_this_machine_cannot_be_judged_without_its_addresses() -> None:
    for rule, needed in (
        ("self:*", True),
        ("private:*", True),
        ("linklocal:*", False),
        ("10.0.0.0/8:*", False),
    ):
        assert rules(permit=rule).need_machine is rules(deny=rule).need_machine is needed
        if needed:
            with pytest.raises(ValueError, match="need this machine's addresses"):
                rules(deny=rule).allows(Target("a.org", 80), ip_address(SOMEWHERE))


def test_no_two_sets_of_networks_overlap() -> None:
    sets = [HostSet.LOOPBACK, HostSet.PRIVATE, HostSet.LINK_LOCAL]
    networks = [network for each in sets for network in NETWORKS[each]]
    for index, one in enumerate(networks):
        for other in networks[index + 1 :]:
            assert one.version != other.version or not one.overlaps(other)


LINK_LOCAL = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
]


@pytest.mark.parametrize(
    "permit", ["*:*", "0.0.0.0/0:* [::/0]:*", "*.org:* a.org:80", "private:* self:* loopback:*"]
)
@pytest.mark.parametrize("address", LINK_LOCAL)
def test_a_link_local_address_is_denied_unless_a_rule_is_about_it(permit: str, address: str) -> None:
    assert not allows(rules(permit), address)
    assert not allows(rules(permit), "a.org", address=address)


@pytest.mark.parametrize(
    "permit", ["linklocal:80", "169.254.169.254:* [fe80::1]:*", "169.254.0.0/16:* [fe80::/64]:*"]
)
@pytest.mark.parametrize("address", LINK_LOCAL)
def test_a_rule_about_link_local_addresses_permits_them(permit: str, address: str) -> None:
    assert allows(rules(permit), address)
    assert allows(rules(permit), "a.org", address=address)
    assert not allows(rules(permit, deny="linklocal:*"), address)


@pytest.mark.parametrize(
    ("permit", "deny", "forgotten"),
    [
        ("*:*", "private:*", True),
        ("*.org:443", "private:443", True),
        ("*:*", "private:* self:*", False),
        ("*:*", "private:* 127.0.0.0/8:* [::1]:*", False),
        ("*:*", "10.0.0.0/8:*", False),
        ("10.0.0.0/8:*", "private:22", False),
    ],
)
def test_a_deny_that_leaves_out_loopback_is_recognised(permit: str, deny: str, forgotten: bool) -> None:
    assert rules(permit, deny).forget_loopback is forgotten


@pytest.mark.parametrize(
    ("rule", "address"),
    [
        ("[::/0]:*", "::ffff:127.0.0.1"),
        ("[::/0]:*", "127.0.0.1"),
        ("0.0.0.0/0:*", "::1"),
        ("192.0.2.0/24:*", "2002:c000:201::1"),
    ],
)
def test_a_rule_for_one_address_family_does_not_match_the_other(rule: str, address: str) -> None:
    assert not allows(rules(permit=rule), address)


def test_a_list_of_rules_is_split_at_commas() -> None:
    assert parse_rules(" a:1, b:2 ,") == (parse_rule("a:1"), parse_rule("b:2"))
    with pytest.raises(ValueError, match="expected at least one host:port, found none"):
        parse_rules(" , ")


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_network_contains_its_own_address(address: object, bits: int) -> None:
    text = str(address)
    assert allows(rules(permit=f"[{text}]:*" if ":" in text else f"{text}:*"), text)


@given(st.text() | st.text(alphabet="[]:/*.-0123456789abf%", max_size=30))
def test_arbitrary_text_is_a_rule_or_a_value_error(text: str) -> None:
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


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:22", "10.0.0.0/8:*", "[2001:db8::1]:443", "[2001:db8::/32]:80-89", "*.lan:80-89", "*:*",
        "wiki.lan:80", "private:*", "self:8000-8999", "loopback:1-2", "linklocal:80", "self.:80",
    ],
)  # fmt: skip
def test_a_rule_is_shown_as_it_is_written(text: str) -> None:
    assert str(parse_rule(text)) == text
    assert parse_rule(str(parse_rule(text))) == parse_rule(text)


def test_the_rule_that_decides_is_the_first_of_deny_then_the_first_of_permit() -> None:
    some = Rules(
        tuple(map(parse_rule, ("*:80", "10.0.0.0/8:*"))), tuple(map(parse_rule, ("*.bad:*", "10.0.0.1:*")))
    )

    def deciding(host: str, port: int, address: str) -> tuple[bool, str | None]:
        permitted, rule = some.decide(Target(host, port), ip_address(address))
        return permitted, None if rule is None else str(rule)

    assert deciding("10.0.0.1", 80, "10.0.0.1") == (False, "10.0.0.1:*")
    assert deciding("10.0.0.2", 80, "10.0.0.2") == (True, "*:80")
    assert deciding("10.0.0.2", 81, "10.0.0.2") == (True, "10.0.0.0/8:*")
    assert deciding("very.bad", 80, "10.0.0.2") == (False, "*.bad:*")
    assert deciding("192.0.2.1", 81, "192.0.2.1") == (False, None)
    assert str(some.deciding(Target("very.bad", 80))) == "*.bad:*"
    assert str(some.deciding(Target("good", 80))) == "*:80"
    assert some.deciding(Target("good", 81)) is None


def test_a_rule_for_a_unix_socket_is_about_nothing_else() -> None:
    rule = parse_rule("unix:/run/docker.sock")
    assert str(rule) == "unix:/run/docker.sock"
    assert parse_rule(str(rule)) == rule
    rules = Rules((rule,))
    assert not rules.need_machine
    assert not rules.allows(Target("127.0.0.1", 1), ip_address("127.0.0.1"))
    assert rules.judge_name(Target("unix", 1)) is Verdict.DENIED


@pytest.mark.parametrize(
    "text", ["unix:run/x", "unix:/run/../x", "unix:/run/./x", "unix:/", "unix://x", "unix:/a b", "unix:/a:1"]
)
def test_what_is_no_path_of_a_unix_socket(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_rule(text)


def test_unix_sockets_are_judged_by_path_alone() -> None:
    links = {"/var/run/x.sock": "/run/x.sock"}

    def real(path: str) -> str:
        return links.get(path, path)

    rules = Rules(
        parse_rules("*:*, unix:/var/run/x.sock, unix:/run/y.sock"), parse_rules("*:*, unix:/run/y.sock")
    )
    for path in ("/var/run/x.sock", "/run/x.sock"):
        assert rules.decide_path(path, real) == (True, rules.permit[1])
    assert rules.decide_path("/run/y.sock", real) == (False, rules.deny[1])
    assert rules.decide_path("/run/z.sock", real) == (False, None)


# Datagrams


@pytest.mark.parametrize(
    ("permit", "deny", "tcp", "udp"),
    [
        ("10.0.0.1:53", "", True, False),
        ("10.0.0.1:53/tcp", "", True, False),
        ("10.0.0.1:53/udp", "", False, True),
        ("10.0.0.1:53/tcp+udp", "", True, True),
        ("10.0.0.0/8:1-100/UDP", "", False, True),
        ("*:*", "", True, False),
        ("*:* *:*/udp", "", True, True),
        ("*:*/tcp+udp", "private:*", False, False),
        ("*:*/tcp+udp", "10.0.0.1:53/udp", True, False),
        ("*:*/tcp+udp", "10.0.0.1:53/tcp", False, True),
    ],
)
def test_a_rule_may_be_about_datagrams(permit: str, deny: str, tcp: bool, udp: bool) -> None:
    rules = Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))
    for kind, expected in ((Target, tcp), (UdpTarget, udp)):
        assert rules.allows(kind("10.0.0.1", 53), ip_address("10.0.0.1"), Machine()) is expected


@pytest.mark.parametrize(
    ("permit", "deny", "tcp", "udp"),
    [
        ("*.example.org:53/udp", "", Verdict.DENIED, Verdict.PERMITTED),
        ("*:*/udp", "private:*", Verdict.DENIED, Verdict.UNLESS_DENIED),
        ("*:*/tcp+udp", "private:*/udp", Verdict.PERMITTED, Verdict.UNLESS_DENIED),
        ("10.0.0.0/8:*/udp", "", Verdict.DENIED, Verdict.IF_PERMITTED),
        ("*:*/tcp+udp", "*.example.org:*", Verdict.DENIED, Verdict.DENIED),
    ],
)
def test_names_are_judged_by_the_rules_for_their_transport(
    permit: str, deny: str, tcp: Verdict, udp: Verdict
) -> None:
    rules = Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))
    assert rules.judge_name(Target("a.example.org", 53)) is tcp
    assert rules.judge_name(UdpTarget("a.example.org", 53)) is udp


@pytest.mark.parametrize(
    ("permit", "deny", "tcp", "udp", "any_answer"),
    [
        ("*:*", "", True, False, False),
        ("*:*/udp", "", False, True, False),
        ("*:*/tcp+udp", "", True, True, False),
        ("*:*/udp+any", "", False, True, True),
        ("*:*/udp+any", "10.0.0.1:*", False, False, False),
        ("*:*/udp+any", "10.0.0.1:*/udp", False, False, False),
        ("*:*/udp+any", "10.0.0.1:*/udp+any", False, True, False),
        ("*:*/udp+any *:*", "10.0.0.1:*/tcp", False, True, True),
    ],
)
def test_answers_from_anywhere_need_a_word_of_their_own(
    permit: str, deny: str, tcp: bool, udp: bool, any_answer: bool
) -> None:
    rules = Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))
    for kind, expected in ((Target, tcp), (UdpTarget, udp), (OpenUdpTarget, any_answer)):
        assert rules.allows(kind("10.0.0.1", 53), ip_address("10.0.0.1"), Machine()) is expected


@pytest.mark.parametrize("address", ["224.0.0.1", "239.255.255.250", "ff02::1"])
def test_datagrams_never_go_to_multicast_addresses(address: str) -> None:
    (rule,) = parse_rules("224.0.0.0/4:*/udp" if "." in address else "[ff00::/8]:*/udp")
    for permit in (rule, parse_rule("*:*/udp")):
        assert not Rules((permit,)).allows(UdpTarget(address, 53), ip_address(address))


@pytest.mark.parametrize(
    "text", ["*:53/udp", "[2001:db8::/32]:*/udp", "private:1-9/tcp+udp", "a.b:80/tcp", "a.b:1/udp+any"]
)
def test_a_rule_of_datagrams_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_rule(text)) == text


def test_another_word_behind_the_port_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"expected /udp, /tcp, /tcp\+udp or /udp\+any after the port, found"
    ):
        parse_rule("*:1/sctp")
