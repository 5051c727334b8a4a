"""The rules of [route]: which one decides."""

from __future__ import annotations

import pytest

from tests.config.test_exits import OTHER, TOX_ID
from toxproxy.address import Target
from toxproxy.config import parse
from toxproxy.errors import ConfigError
from toxproxy.routing.routes import Routes, Way

EXITS = f"[exits]\nhome = {TOX_ID}\noffice = {OTHER}\n"


def routes(text: str) -> Routes:
    return parse(f"{EXITS}[route]\n{text}", "cfg.ini").routes


def decided(text: str, host: str, port: int = 443) -> str | None:
    route = routes(text).decide(Target(host, port))
    return None if route is None else route.name


RULES = """\
default = home, office
private = direct
*.lan = home
*.lan:25 = reject
printer = home
[2001:db8::/32] = office
10.1.0.0/16:8000-8080 = office
*:25 = reject
"""


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("10.1.2.3", 8000, "private"),  # the first that matches
        ("nas.lan", 443, "*.lan"),
        ("NAS.LAN.", 25, "*.lan"),
        ("lan", 443, "default"),
        ("printer", 631, "printer"),
        ("2001:db8::7", 443, "[2001:db8::/32]"),
        ("::ffff:192.168.0.1", 443, "private"),
        ("mail.example.org", 25, "*:25"),
        ("198.51.100.7", 25, "*:25"),
        ("198.51.100.7", 443, "default"),
        ("10.example.org", 443, "default"),
    ],
)
def test_the_first_rule_that_matches_decides(host: str, port: int, rule: str) -> None:
    assert decided(RULES, host, port) == rule


def test_without_a_default_what_no_rule_matches_is_left_to_the_port() -> None:
    assert decided("*.lan = home\n", "example.org") is None
    assert decided("", "example.org") is None


def test_the_ways() -> None:
    ways = {each.name: each.way for each in routes(RULES).lines}
    assert ways["private"] is Way.DIRECT
    assert ways["*:25"] is Way.REJECT
    assert isinstance(ways["default"], tuple)
    assert [str(each) for each in ways["default"]] == [TOX_ID, OTHER]


def test_a_server_that_only_a_rule_names_is_connected_to() -> None:
    found = parse(f"[socks]\na = 1080:{TOX_ID}\n[route]\n*.lan = {OTHER}\n", "cfg.ini")
    assert [str(each) for each in found.servers] == [TOX_ID, OTHER]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("*.lan = nowhere", "expected a Tox ID or a name of"),
        ("10.0.0.1/8 = home", "expected the network's own address"),
        ("2001:db8::/32 = home", "expected host:port"),
        ("10.* = home", "expected a network such as"),
        ("*.lan:0 = home", "expected a port from 1 to 65535"),
        ("unix:/run/x = home", "expected a host, a network or default"),
        ("*.lan = direct, home", "expected a Tox ID or a name of"),
        (" = home", "expected a key before"),
    ],
)
def test_what_is_wrong_with_a_rule(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"^cfg\.ini:5: ") as caught:
        routes(f"{line}\n")
    assert why in str(caught.value)
