"""[reverse], and what [client NAME] permits of it."""

from __future__ import annotations

import pytest

from toxproxy import config
from toxproxy.address import Bind, Target, UdpTarget, UnixBind
from toxproxy.config.advice import warnings
from toxproxy.config.changes import changes
from toxproxy.config.listen import parse_listen, permitted
from toxproxy.config.reverse import DEFAULT_RULES, exactly, rules_of
from toxproxy.config.settings import Forward, ProxyPort
from toxproxy.errors import ConfigError
from toxproxy.program.meaning import lines, roles
from toxproxy.rules import parse_rule

KEY = "FEDCBA9876543210" * 4


def tox_id() -> str:
    raw = bytes(range(36))
    check = bytearray(2)
    for at, byte in enumerate(raw):
        check[at % 2] ^= byte
    return (raw + bytes(check)).hex().upper()


HOME = tox_id()


def parse(text: str) -> config.Config:
    return config.parse(text.replace("TOXID", HOME).replace("CLIENTKEY", KEY), "cfg.ini")


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value).removeprefix("cfg.ini:")


def test_lines_are_those_of_forwards_and_proxy_ports() -> None:
    found = parse(
        "[exits]\nhome = TOXID\n[reverse]\nweb = 8080:127.0.0.1:3000:home\n"
        "dns = *:53:[::1]:53/tcp+udp:TOXID\nsock = unix:/run/x:unix:/run/y:home\n"
        "way = socks:alice:pw@[::1]:1081:home\n"
    )
    web, dns, dns_udp, sock, way = found.reverse.entries
    assert (web.bind, web.server.public_key) == (Bind("127.0.0.1", 8080), bytes(range(32)))
    assert isinstance(web, Forward)
    assert web.target == Target("127.0.0.1", 3000)
    assert isinstance(dns, Forward)
    assert isinstance(dns_udp, Forward)
    assert (dns.bind, dns.target, dns_udp.target) == (Bind("", 53), Target("::1", 53), UdpTarget("::1", 53))
    assert sock.bind == UnixBind("/run/x")
    assert isinstance(way, ProxyPort)
    assert (way.bind, way.username, way.password) == (Bind("::1", 1081), "alice", "pw")
    assert found.has_secrets
    assert [str(each) for each in found.servers] == [HOME]
    found.require_client("cfg.ini")
    assert roles(found) == ("client",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[reverse]\nweb = localhost:80:a:1:TOXID",
            "2: expected an address of the server, as 127.0.0.1, or *, found the name 'localhost'",
        ),
        (
            "[exits]\na = TOXID\n[reverse]\nweb = 80:a:1:a\nother = *:80:a:1:a",
            "5: expected an address of its own at the server, found *:80 beside 127.0.0.1:80 on line 4",
        ),
        (
            "[reverse]\nsock = unix:/run/x,mode=666:a:1:TOXID",
            "2: expected unix:/path without a mode: the server makes it 0600, found one",
        ),
        (
            "[reverse]\ntime = 123:a:123/udp+any:TOXID",
            "2: expected /udp: answers come from the target alone, found /udp+any",
        ),
        (
            "[client laptop]\nkey = CLIENTKEY\nlisten = *:80/udp+any",
            "3: expected /udp or /tcp+udp, found '*:80/udp+any'",
        ),
        (
            "[client laptop]\nlisten = *:80",
            "1: expected the client's key in [client laptop], as key = and 64 hexadecimal digits, found none",
        ),
        (
            "[client laptop]\nkey = CLIENTKEY\nlisten = self:80",
            "3: expected an address, a network or * before the port, found 'self:80'",
        ),
        (
            "[client laptop]\nkey = CLIENTKEY\nlisten = example.org:80",
            "3: expected an address, a network or * before the port, found 'example.org:80'",
        ),
        (
            "[client a]\nkey = CLIENTKEY\n[client b]\nkey = CLIENTKEY",
            "4: expected each client in one section, found that of [client a]",
        ),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    assert error(text) == said


def test_sixty_four_lines_are_enough() -> None:
    most = "[reverse]\n" + "".join(f"a{port} = {port}:b:1:TOXID\n" for port in range(1, 66))
    assert error(most) == "66: expected at most 64 lines in [reverse], found more"


def test_a_forward_leads_to_its_target_alone() -> None:
    found = parse("[reverse]\nself = 1:self:80:TOXID\nsix = 2:[::ffff:1.2.3.4]:80/udp:TOXID\n")
    name, six = (rules_of(each, None) for each in found.reverse.entries)
    assert name.permit == (exactly(Target("self", 80)),)
    assert name.judge_name(Target("self", 80)).name == "PERMITTED"
    assert name.judge_name(Target("self", 81)).name == "DENIED"
    assert str(six.permit[0]) == "1.2.3.4:80/udp"


def test_a_proxy_port_leads_where_permit_says() -> None:
    found = parse("[reverse]\nway = socks:1081:TOXID\npermit = 10.0.0.0/8:*\n")
    (way,) = found.reverse.entries
    assert rules_of(way, found.reverse.permit).permit == (parse_rule("10.0.0.0/8:*"),)
    assert rules_of(way, None) == DEFAULT_RULES


@pytest.mark.parametrize(
    ("pattern", "bind", "udp", "is_permitted"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080), False, True),
        ("127.0.0.1:8080", Bind("127.0.0.1", 8081), False, False),
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080), True, False),
        ("127.0.0.1:8000-8100", Bind("127.0.0.1", 8100), False, True),
        ("127.0.0.0/8:80", Bind("127.9.9.9", 80), False, True),
        ("127.0.0.1:80", Bind("0.0.0.0", 80), False, False),  # 0.0.0.0 is more than loopback
        ("[::1]:80", Bind("::", 80), False, False),
        ("0.0.0.0/0:80", Bind("0.0.0.0", 80), False, False),
        ("0.0.0.0:80", Bind("0.0.0.0", 80), False, True),
        ("0.0.0.0:80", Bind("", 80), False, False),
        ("*:80", Bind("", 80), False, True),
        ("*:80", Bind("::", 80), False, True),
        ("127.0.0.1:80", Bind("::ffff:127.0.0.1", 80), False, True),
        ("*:80/udp", Bind("", 80), True, True),
        ("*:80/udp", Bind("", 80), False, False),
        ("*:80/tcp+udp", Bind("10.0.0.1", 80), True, True),
        ("127.0.0.1:*", Bind("127.0.0.1", 0), False, True),
        ("127.0.0.1:1-1000", Bind("127.0.0.1", 0), False, False),
        ("unix:/run/x", UnixBind("/run/x"), False, True),
        ("unix:/run/x", UnixBind("/run/xy"), False, False),
        ("*:*", UnixBind("/run/x"), False, False),
    ],
)
def test_what_a_pattern_permits(pattern: str, bind: Bind | UnixBind, udp: bool, is_permitted: bool) -> None:
    assert (permitted((parse_listen(pattern),), bind, udp=udp) is not None) is is_permitted


def test_check_says_it_in_plain_lines() -> None:
    client = parse(
        "[exits]\nhome = TOXID\n[reverse]\nweb = 8080:127.0.0.1:3000:home\nway = socks:1081:home\n"
    )
    assert list(lines(client, "client"))[1:3] == [
        "  web: 127.0.0.1:8080 at the server home, where it permits that -> 127.0.0.1:3000 here",
        "  way: 127.0.0.1:1081 at the server home, where it permits that (SOCKS and HTTP proxy) -> "
        "from here to *:*, but not private:*, self:*",
    ]
    server = parse("[client laptop]\nkey = CLIENTKEY\nlisten = 127.0.0.1:8080, *:53/udp\n")
    key = server.clients[0].key.hex().upper()[:12]
    said = f"  laptop ({key}): has this server listen on 127.0.0.1:8080, *:53/udp, for good"
    assert said in list(lines(server, "server"))


def test_what_a_reload_names() -> None:
    old = parse("[reverse]\nweb = 1:a:1:TOXID\nold = 2:a:1:TOXID\n[client a]\nkey = CLIENTKEY\n")
    new = parse(
        "[reverse]\nweb = 1:a:2:TOXID\nnew = socks:3:TOXID\npermit = *:1\n"
        "[client a]\nkey = CLIENTKEY\nlisten = *:1\n"
    )
    found = changes(old, new, "client")
    assert (found.added, found.removed) == (("[reverse] new",), ("[reverse] old",))
    assert found.changed == ("[reverse] permit", "[reverse] web")
    assert changes(old, new, "server").changed == ("[client a] listen",)


def test_a_proxy_port_for_everybody_is_warned_of() -> None:
    (said,) = warnings(parse("[reverse]\nway = socks:*:1081:TOXID\n"), "client")
    assert said.startswith("[reverse] way has the server listen on *:1081 without a password")
