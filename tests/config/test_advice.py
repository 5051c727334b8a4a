"""Warnings about a configuration: who gets in too easily, and what others can read or reach."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from toxproxy.config.advice import Role, warnings
from toxproxy.config.parsing import load, parse

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "FEDCBA9876543210" * 4
ID = KEY + "0" * 12  # the XOR of its byte pairs is 0, and so is the checksum
ROLES: tuple[Role, ...] = ("server", "client")
OPEN = "anyone who has the Tox ID"
EVERYWHERE = "may connect to whatever this machine can reach; say where to with permit"
ANOTHER = "choose another, for example the output of: openssl rand -hex 16"


def test_a_clients_own_deny_that_forgets_this_machine() -> None:
    text = f"[access]\npermit = *.lan:80\n[client a]\nkey = {KEY}\ndeny = private:*"
    assert warnings(parse(text, "x"), "server") == [
        "[client a]: what is denied to it has private, but not this machine itself: add self:*"
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("", None),
        (f"allow = {KEY}\npermit = *:*", None),
        (
            "allow = *\npermit = a:1",
            f"[access] allow = *: {OPEN} is let in; give a secret to those who may come",
        ),
        ("allow = *\npermit = a:1, *:*", f"[access] allow = *: {OPEN} {EVERYWHERE}"),
        (
            "secret = correct horse battery\npermit = *:*",
            f"[access] permit = *:* with a secret: whoever learns the secret {EVERYWHERE}",
        ),
        ("secret = correct horse battery\npermit = a:1", None),
        (
            "permit = *:*\ndeny = private:*",
            "[access] deny names private, but not this machine itself: add self:*",
        ),
        ("permit = *:*\ndeny = private:*, self:*", None),
        ("secret = 1", f"[access] secret has fewer than 12 characters: {ANOTHER}"),
        ("secret = 111111111112", f"[access] secret has fewer than 6 different characters: {ANOTHER}"),
        (
            "secret = change this pass phrase",
            f"[access] secret is the one of an example, which everybody knows: {ANOTHER}",
        ),
    ],
)
def test_a_server_that_is_too_easy_to_enter_is_warned_about(text: str, warning: str | None) -> None:
    config = parse(f"[access]\n{text}", "tox.ini")
    assert warnings(config, "server") == ([warning] if warning else [])
    assert warnings(config, "client") == []


def test_the_pass_phrase_of_every_example_is_known_as_one() -> None:
    files = [EXAMPLES.parent / "docs" / "configuration.md", *EXAMPLES.glob("*.ini")]
    phrases = [
        match[1] for file in files for match in re.finditer(r"^(?:; )?secret = (.+)$", file.read_text(), re.M)
    ]
    assert len(phrases) >= 4
    for phrase in phrases:
        assert len(warnings(parse(f"[access]\nsecret = {phrase}", "x"), "server")) == 1


@pytest.mark.parametrize("bind", ["*:", "192.0.2.1:", "[::]:", "box.lan:"])
def test_a_listener_open_to_the_network_is_warned_about(bind: str) -> None:
    config = parse(f"[socks]\nbrowser = {bind}1080:{ID}\n[client]\nweb = {bind}81:wiki:80:{ID}", "tox.ini")
    assert warnings(config, "client") == [
        f"[socks] browser listens on {bind}1080 without a password: whoever reaches that port uses the "
        "server's network; write user:password@ before the address, or remove the address",
        f"[client] web listens on {bind}81 and a forward has no password: whoever reaches that port "
        "reaches wiki:80; without the address, only this machine does",
    ]
    assert warnings(config, "server") == []


@pytest.mark.parametrize("bind", ["", "[::1]:", "127.0.0.2:", "Localhost:", "me:pw@*:"])
def test_a_proxy_on_loopback_or_with_a_password_is_not_warned_about(bind: str) -> None:
    assert warnings(parse(f"[socks]\nbrowser = {bind}1080:{ID}", "tox.ini"), "client") == []


@pytest.mark.skipif(sys.platform == "win32", reason="the mode of a file says nothing on Windows")
@pytest.mark.parametrize(
    "text",
    [
        "[access]\nsecret = correct horse battery",
        f"[socks]\na = 1:{ID}\n[secrets]\n{ID} = hunter2",
        f"[socks]\na = me:hunter2@1:{ID}",
        "[exit]\nupstream = socks5://me:hunter2@h:1",
    ],
)
def test_a_file_with_a_secret_that_others_can_read_is_warned_about(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tox.ini"
    path.write_text(text)
    for mode, found in ((0o600, []), (0o640, ["x"]), (0o604, ["x"])):
        path.chmod(mode)
        for role in ROLES:
            told = warnings(load(path), role)
            assert len(told) == len(found)
            assert all(
                line.endswith(f"is open to other users of this machine: chmod 600 {path}") for line in told
            )
    path.write_text("[server]\nname = home")
    assert warnings(load(path), "server") == []
