"""The errors of a configuration file: the file, the line, what was expected, what was found."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.config.parsing import load, parse
from toxproxy.config.settings import Config
from toxproxy.errors import ConfigError

KEY = "FEDCBA9876543210" * 4
ID = KEY + "0" * 12  # the XOR of its byte pairs is 0, and so is the checksum
LIKE_ID = "FEDCBA98" * 2 + "76543210" * 6 + "0" * 12  # the first digits of ID
OTHER = "89ABCDEF01234567" * 4
IMPOSSIBLE = "0123456789ABCDEF" * 4  # its last bit is set
NO_KEY = "this cannot be a Tox key: the 63rd digit of one is 0 to 7; is it from an example?"
CUT = (
    "without a space before `;`, which begins a comment, found one: "
    "remove the space, or put the comment on a line of its own"
)
FORWARD = "[localip:]localport:remotehost:remoteport[/udp]:toxid (an IPv6 address in brackets)"
PROXY = "[user:password@][localip:]localport:toxid (an IPv6 address in brackets)"
UPSTREAM = "socks5://host:port or socks4://host:port or http://host:port or socks5h://host:port or socks4a://host:port"
WRONG_BINDS = ("alice:hunter2:{}", "hunter2:{}", "hunter 2:80:{}", "127.1:80:{}", "me:pw@hunter2:{}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = b", "1: expected a [section] before the first `key = value`, found none"),
        ("\n[clinet]", "2: expected a known section, found '[clinet]': did you mean [client]?"),
        ("[Server]", "1: expected a known section, found '[Server]': did you mean [server]?"),
        ("[tox]\nprot = 1", "2: expected a known key of [tox], found 'prot': did you mean 'port'?"),
        ("[server]\nx = 1", "2: expected a known key of [server], found 'x': did you mean 'name'?"),
        ("[tox]\nudp", "2: expected `key = value` or [section], found neither"),
        ("[tox\nudp = no", "1: expected `key = value` or [section], found neither"),
        ("[tox]\n  udp", "2: expected `key = value` or [section], found neither"),
        ("[tox]\nudp = no\nhunter2", "3: expected `key = value` or [section], found neither"),
        ("[tox]\nudp = no\n  hunter2", "3: expected `key = value` or [section], found neither"),
        (f"[access]\nallow = {KEY}\n{OTHER}", "3: expected `key = value` or [section], found neither"),
        ("[tox]\n= no", "2: expected a key before `=`, found none"),
        ("[tox]\nudp = no\n\nudp = no", "4: expected each key of [tox] once, found 'udp' on line 2 already"),
        ("[tox]\nudp = \0", "2: expected text, found the character U+0000"),
        ("[tox]\rudp = no", "1: expected text, found the character U+000D"),
        ("[server]\nname = \udc80", "2: expected text, found the character U+DC80"),
        ("[server]\nname =", "2: expected a nickname of 1 to 128 bytes of UTF-8, found 0"),
        ("[server]\nname = " + "ü" * 65, "2: expected a nickname of 1 to 128 bytes of UTF-8, found 130"),
        ("[client]\na = 80:h:80", f"2: expected {FORWARD}, found 3 fields"),
        (f"[client]\na = ::1:80:h:80:{ID}", f"2: expected {FORWARD}, found 7 fields"),
        (f"[client]\na = x:h:80:{ID}", "2: expected a port from 0 to 65535, found 'x'"),
        (f"[client]\na = 80:h:0:{ID}", "2: expected a port from 1 to 65535, found '0'"),
        (f"[client]\na = 80:h h:80:{ID}", "2: expected a host name or an IP address, found 'h h'"),
        (
            f"[client]\na = 80:127.1:80:{ID}",
            "2: expected an IPv4 address as four decimal numbers, found '127.1'",
        ),
        ("[client]\na = 80:h:80:ABC", "2: expected a Tox ID of 76 hexadecimal digits, found 3 characters"),
        (
            f"[client]\na = 80:h:80:{KEY}",
            "2: expected a whole Tox ID of 76 hexadecimal digits, found a public key of 64",
        ),
        (
            f"[client]\na = 80:h:80:{ID[:-1]}1",
            "2: expected a Tox ID whose checksum is right, found one with a digit mistyped or lost",
        ),
        (f"[socks]\na = {ID}", f"2: expected {PROXY}, found 1 fields"),
        *(
            (f"[socks]\na = {line}", f"2: expected {PROXY}{port}, found {found}")
            for port, found, lines in (
                (", with a port from 0 to 65535", "something else", WRONG_BINDS),
                ("", "something else", ("[hunter2]:80:{}", "me:pw@[hunter2:{}")),
                ("", "4 fields", ("alice:hunter2:80:{}",)),
                ("", "5 fields", ("alice:hunter2:127.0.0.1:80:{}",)),
            )
            for line in (text.format(ID) for text in lines)
        ),
        (
            f"[socks]\na = 80:{ID}:hunter2",
            f"2: expected {PROXY}, with a port from 0 to 65535, found something else",
        ),
        ("[socks]\na = 80:hunter2", "2: expected a Tox ID of 76 hexadecimal digits, found 7 characters"),
        (
            f"[socks]\na = 80:{ID} # hunter2",
            "2: expected a Tox ID, found one with `#` behind it: begin a comment with `;`",
        ),
        ("[exit]\nupstream = me:hunter2@h:1", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = http://me:hunter2:h:1", f"2: expected {UPSTREAM}, found something else"),
        (f"[socks]\na = hunter2@80:{ID}", "2: expected user:password before the @, found no colon"),
        (f"[socks]\na = :hunter2@80:{ID}", "2: expected a user name of 1 to 255 bytes of UTF-8, found 0"),
        (f"[socks]\na = me:@80:{ID}", "2: expected a password of 1 to 255 bytes of UTF-8, found 0"),
        (
            f"[socks]\na = me:{'x' * 256}@80:{ID}",
            "2: expected a password of 1 to 255 bytes of UTF-8, found 256",
        ),
        (
            f"[client]\nssh = 80:h:80:{ID}\n[compress]\nshs = no",
            "4: expected the name of a forward or proxy, or default, found 'shs': did you mean 'ssh'?",
        ),
        (
            "[compress]\nssh = no",
            "2: expected the name of a forward or proxy, or default, found 'ssh': did you mean 'default'?",
        ),
        ("[compress]\ndefault = lz4", "2: expected yes or no, found 'lz4'"),
        (
            f"[compress]\na = 1\n[socks]\na = 80:{ID}",
            "2: expected yes or no, found '1'",
        ),
        ("[access]\nallow =", "2: expected at least one item, found none"),
        ("[access]\npermit = ,", "2: expected at least one item, found none"),
        (
            f"[access]\nallow = {KEY},\n\n ; the phone\n  {OTHER}, 12",
            "5: expected a public key of 64 hexadecimal digits or a Tox ID of 76, found '12'",
        ),
        ("[access]\nsecret =", "2: expected a secret of 1 to 512 bytes of UTF-8, found 0"),
        ("[access]\nsecret = correct horse ;hunter2", f"2: expected a secret {CUT}"),
        ("[access]\nsecret = ;hunter2", f"2: expected a secret {CUT}"),
        (f"[secrets]\n{KEY} = correct\t; hunter2\n[socks]\na = 80:{ID}", f"2: expected a secret {CUT}"),
        (f"[socks]\na = me:hunter2 ;3@80:{ID}", f"2: expected a password {CUT}"),
        (f"[socks]\na = me:hunter2:a ;3@80:{ID}", f"2: expected a password {CUT}"),
        ("[exit]\nupstream = socks5://me:hunter2 ;3@h:1", f"2: expected a password {CUT}"),
        (
            f"[socks]\na = 80:{ID}\n[secrets]\nhunter2 = {ID}",
            "4: expected the Tox ID of one server of this file or its first digits, 8 or more, "
            "before the `=`, found something else",
        ),
        (
            f"[socks]\na = 80:{ID}\n[secrets]\n{KEY[:7]} = hunter2",
            "4: expected the Tox ID of one server of this file or its first digits, 8 or more, "
            "before the `=`, found something else",
        ),
        (
            f"[secrets]\n{KEY[:8]} = x\n[socks]\na = 80:{ID}\nb = 81:{LIKE_ID}",
            "2: expected the Tox ID of one server of this file or its first digits, 8 or more, "
            "before the `=`, found digits of several",
        ),
        (
            f"[secrets]\n{KEY} = hunter2\n{ID} = hunter2\n[socks]\na = 80:{ID}",
            "3: expected one secret for each server, found a second one",
        ),
        (
            f"[secrets]\n{KEY} =\n[socks]\na = 80:{ID}",
            "2: expected a secret of 1 to 512 bytes of UTF-8, found 0",
        ),
        (
            "[access]\npermit = a:1,\n a",
            "3: expected host:port (IPv6 in brackets, * for any port), found 'a'",
        ),
        ("[access]\ndeny = a:x", "2: expected a port from 1 to 65535, found 'x'"),
        ("[exit]\nupstream = sock5://me:hunter2@h:1", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = socks5://me:hunter2@h", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = socks5://me:hunter2@h:x", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = socks5://me:hunter2@:1", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = http://h:1/path", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nupstream = http://[h:1", f"2: expected {UPSTREAM}, found something else"),
        ("[exit]\nconnect_timeout = 0", "2: expected seconds from 0.1 to 3600, found '0'"),
        ("[exit]\nconnect_timeout = nan", "2: expected seconds from 0.1 to 3600, found 'nan'"),
        ("[tox]\nwait = 3601", "2: expected seconds from 0 to 3600, found '3601'"),
        ("[tox]\nwait = -1", "2: expected seconds from 0 to 3600, found '-1'"),
        ("[tox]\nudp = maybe", "2: expected yes or no, found 'maybe'"),
        ("[tox]\nport = 2-1", "2: expected the lower port first, found '2-1'"),
        ("[tox]\ntcp_relay = 65536", "2: expected a port from 0 to 65535, found '65536'"),
        (
            "[tox]\nbootstrap = h:1",
            "2: expected host:port:key (an IPv6 address in brackets) or none, found 'h:1'",
        ),
        ("[tox]\nbootstrap = h:1:2", "2: expected a public key of 64 hexadecimal digits, found '2'"),
        (f"[tox]\nbootstrap = h:1:{IMPOSSIBLE}", f"2: {NO_KEY}"),
        (f"[access]\nallow = {KEY}, {IMPOSSIBLE}", f"2: {NO_KEY}"),
        (f"[socks]\na = 80:{IMPOSSIBLE + '0' * 12}", f"2: {NO_KEY}"),
        ("[tox]\nrelays = h:1", "2: expected host:port:key (an IPv6 address in brackets), found 'h:1'"),
        ("[tox]\nrelays = none", "2: expected host:port:key (an IPv6 address in brackets), found 'none'"),
        ("[tox]\nrelays = h:0:KEY", "2: expected a port from 1 to 65535, found '0'"),
        ("[tox]\nrelays = h:1:2", "2: expected a public key of 64 hexadecimal digits, found '2'"),
        (f"[tox]\nrelays = h:1:{IMPOSSIBLE}", f"2: {NO_KEY}"),
        (f"[tox]\nbootstrap = h:1:{KEY}\n none", "2: expected nodes or none, found both"),
        (
            "[tox]\nproxy = socks5://me:hunter2@h:1",
            "2: expected a proxy without user and password, which Tox cannot send, found some",
        ),
        (
            "[tox]\nproxy = socks4://h:1",
            "2: expected socks5://host:port or http://host:port or socks5h://host:port, found something else",
        ),
        (
            "[tox]\nudp = yes\nproxy = http://h:1",
            "2: expected no beside a proxy, which carries TCP only, found yes",
        ),
        ("[tox]\nudp = no\nport_mapping = yes", "3: expected no without UDP, found yes"),
        ("[tox]\nport_mapping = yes\nproxy = http://h:1", "2: expected no without UDP, found yes"),
    ],
)
def test_every_error_names_the_line_what_was_expected_and_what_was_found(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "tox.ini")
    assert str(caught.value) == f"tox.ini:{message}"
    assert "hunter2" not in message


FIELDS = st.sampled_from(
    ["hunter2", "[hunter2]", "hunter2 ", "", "80", "*", "alice", "[::1]", "tox", ID, KEY]
)


@given(st.lists(FIELDS | st.sampled_from(":@@:[]# "), max_size=9), st.sampled_from(":@"))
def test_no_error_about_a_proxy_port_shows_its_password(fields: list[str], join: str) -> None:
    for text in (join.join(fields), "".join(fields)):
        told = ""
        try:
            parse(f"[socks]\na = {text}", "tox.ini")
        except ConfigError as error:
            told = str(error)
        assert "hunter2" not in told


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "tox.ini"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: expected a readable file, found: No such file or directory"


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: expected a readable file, found: Is a directory"


def test_an_endless_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load("/dev/zero")
    assert str(caught.value) == "/dev/zero: expected at most 1048576 bytes, found more"


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "tox.ini"
    path.write_bytes("[server]\n; ok\nname = Bücher".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:3: expected UTF-8 text, found the byte 0xFC"


SECTIONS = [
    "[server]",
    "[client]",
    "[socks]",
    "[access]",
    "[secrets]",
    "[exit]",
    "[tox]",
    "",
    "; x",
    "  continued",
]
KEYS = [
    "name",
    "a",
    "b",
    "allow",
    "secret",
    "permit",
    "deny",
    "upstream",
    "bootstrap",
    "relays",
    "port",
    "proxy",
]
PIECES = ["1", "0", "*", "[::1]", "127.0.0.1", "h", ":", "@", ",", ID, KEY, "socks5://", "yes", "none", "/8"]
lines = st.sampled_from(SECTIONS) | st.sampled_from(KEYS).map("{} = ".format)
pieces = st.lists(st.sampled_from(PIECES), max_size=8)
values = st.text(max_size=20) | pieces.map("".join) | pieces.map(":".join)


@given(st.text() | st.lists(st.tuples(lines, values).map("".join)).map("\n".join))
def test_arbitrary_text_is_a_configuration_or_a_config_error(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse(text, "tox.ini"), Config)


@given(st.binary())
def test_arbitrary_bytes_are_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "tox.ini"
    path.write_bytes(raw)
    with suppress(ConfigError):
        assert isinstance(load(path), Config)
