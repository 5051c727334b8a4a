"""[exits]: names for servers, and several servers in order."""

from __future__ import annotations

import pytest

from toxproxy.config import Config, parse
from toxproxy.config.exits import in_words
from toxproxy.errors import ConfigError


def make_tox_id(seed: int) -> str:
    """A Tox ID whose checksum is right: each byte pair of the key is there twice."""
    return f"{seed:02X}23456701234567" * 4 + "0" * 12


TOX_ID, OTHER = make_tox_id(1), make_tox_id(2)
EXITS = f"[exits]\nhome = {TOX_ID}\noffice = {OTHER}\n"


def config(text: str) -> Config:
    return parse(EXITS + text, "cfg.ini")


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return str(caught.value)


def test_a_name_stands_where_a_tox_id_may() -> None:
    found = config("[client]\nssh = 22:127.0.0.1:22:home\n[socks]\na = 1080:office\nb = u:p@1081:home\n")
    assert str(found.forwards[0].server) == TOX_ID
    assert [str(each.server) for each in found.proxies] == [OTHER, TOX_ID]


def test_names_may_stand_before_the_section_that_says_them() -> None:
    found = parse("[client]\nssh = 22:127.0.0.1:22:home\n" + EXITS, "cfg.ini")
    assert str(found.forwards[0].server) == TOX_ID


def test_several_servers_in_order() -> None:
    found = config(f"[client]\nssh = 22:127.0.0.1:22:office, home\n[socks]\na = 1080:{TOX_ID},office\n")
    assert [str(each) for each in found.forwards[0].servers] == [OTHER, TOX_ID]
    assert [str(each) for each in found.proxies[0].servers] == [TOX_ID, OTHER]
    assert [str(each) for each in found.servers] == [OTHER, TOX_ID]


def test_a_client_needs_no_port_where_there_is_an_exit() -> None:
    found = config("")
    found.require_client("cfg.ini")
    assert [str(each) for each in found.servers] == [TOX_ID, OTHER]


def test_a_secret_for_a_name() -> None:
    found = config("[client]\nssh = 22:127.0.0.1:22:home\n[secrets]\nhome = one\noffice = two\n")
    assert found.secrets == {bytes.fromhex(TOX_ID[:64]): "one", bytes.fromhex(OTHER[:64]): "two"}


def test_an_unknown_name_is_said_and_not_repeated() -> None:
    expected = "cfg.ini:5: expected a Tox ID or a name of [exits], found neither: did you mean 'home'?"
    assert error("[client]\nssh = 22:127.0.0.1:22:hom\n") == expected
    assert error("[socks]\nssh = 22:hom\n") == expected


@pytest.mark.parametrize("name", ["direct", "reject", "a b", "a:b", "ä", "x" * 33, TOX_ID, TOX_ID[:64]])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"cfg.ini:2: expected a name of 1 to 32 letters"):
        parse(f"[exits]\n{name} = {TOX_ID}\n", "cfg.ini")


def test_a_server_twice_or_too_many() -> None:
    assert error("[client]\nssh = 22:127.0.0.1:22:home,home\n").endswith("each server once, found one twice")
    many = ",".join(make_tox_id(seed) for seed in range(20, 29))
    assert error(f"[client]\nssh = 22:127.0.0.1:22:{many}\n").endswith("at most 8 servers, found 9")


def test_servers_in_words() -> None:
    found = config(f"[client]\nssh = 22:127.0.0.1:22:office,{make_tox_id(9)}\n")
    assert in_words(found.forwards[0].servers, found.exits) == f"office, {make_tox_id(9)[:12]}"
