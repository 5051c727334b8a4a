"""Parsing of addresses, ports, keys and Tox IDs as people write them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toxproxy.address import (
    Bind,
    Target,
    ToxId,
    join_host_port,
    parse_bind_host,
    parse_host,
    parse_key,
    parse_port,
    parse_port_range,
    parse_proxy_url,
    parse_public_key,
    parse_target,
    parse_tox_id,
    plain_address,
    shown,
    split_fields,
    split_listener,
)

KEY = "FEDCBA9876543210" * 4
TOX_ID = KEY + "0" * 12  # the XOR of its byte pairs is 0, and so is the checksum


def checksummed(body: bytes) -> bytes:
    """The Tox ID of `body`, key and nospam. The checksum is computed independently of the parser."""
    checksum = 0
    for i in range(0, len(body), 2):
        checksum ^= int.from_bytes(body[i : i + 2], "big")
    return body + checksum.to_bytes(2, "big")


names = st.from_regex(r"([a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?\.){0,4}[a-z][a-z0-9]{0,20}\.?", fullmatch=True)
hosts = names | st.ip_addresses().map(str)
ports = st.integers(1, 65535)


@given(hosts, ports)
def test_a_target_is_the_same_after_writing_and_parsing(host: str, port: int) -> None:
    assert parse_target(str(Target(host, port))) == Target(host, port)


@pytest.mark.parametrize("host", ["", "x" * 256, "two words", "new\nline", "\x7f", "bücher.example", "nul\0"])
def test_a_host_that_no_open_frame_can_carry_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="expected a host of 1 to 255 visible ASCII characters"):
        Target(host, 80)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000, 80.5])
def test_a_target_with_an_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="expected a port from 1 to 65535, found"):
        Target("host.example", port)


@given(st.binary(min_size=36, max_size=36))
def test_a_tox_id_is_the_same_after_writing_and_parsing(body: bytes) -> None:
    body = body[:31] + bytes((body[31] & 0x7F,)) + body[32:]
    tox_id = ToxId(checksummed(body))
    assert parse_tox_id(str(tox_id)) == parse_tox_id(str(tox_id).lower()) == tox_id
    assert parse_key(str(tox_id)) == tox_id.public_key == parse_public_key(body[:32].hex())


@pytest.mark.parametrize("last", ["80", "EF", "FF"])
def test_a_key_that_libtoxcore_does_not_accept_is_refused(last: str) -> None:
    key = "A" * 62 + last
    for parse, text in (
        (parse_key, key),
        (parse_public_key, key),
        (parse_tox_id, str(ToxId(checksummed(bytes.fromhex(key) + bytes(4))))),
    ):
        with pytest.raises(ValueError, match="cannot be a Tox key"):
            parse(text)


@given(st.binary(min_size=36, max_size=36), st.integers(0, 75), st.integers(1, 15))
def test_a_tox_id_with_one_wrong_digit_is_refused(body: bytes, place: int, change: int) -> None:
    digits = list(checksummed(body).hex())
    digits[place] = f"{int(digits[place], 16) ^ change:x}"
    with pytest.raises(ValueError, match="checksum is right, found one with a digit mistyped or lost"):
        parse_tox_id("".join(digits))


@given(st.lists(names | st.ip_addresses(v=6).map(str), min_size=1, max_size=6))
def test_fields_joined_by_colons_are_split_again(fields: list[str]) -> None:
    assert split_fields(":".join(f"[{field}]" if ":" in field else field for field in fields)) == fields


@given(st.text())
def test_arbitrary_text_is_a_host_or_a_value_error(text: str) -> None:
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert host.isascii()
    assert 0 < len(host) <= 255
    assert parse_host(host) == host


@given(st.text(alphabet="[]:%a1.", max_size=20))
@example("[[:]")
def test_arbitrary_brackets_are_fields_or_a_value_error(text: str) -> None:
    try:
        fields = split_fields(text)
    except ValueError:
        return
    assert not any("[" in field or "]" in field for field in fields)


def test_a_hundred_thousand_colons_are_split() -> None:
    assert len(split_fields(":" * 100_000)) == 100_001
    with pytest.raises(ValueError, match=r"^expected brackets only around"):
        split_fields("[" + ":" * 100_000)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.org", "example.org"),
        ("Example.ORG.", "Example.ORG."),
        ("_service.example.org", "_service.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"),
        ("i❤.ws", "xn--i-7iq.ws"),
        ("_srv.bücher.example", "_srv.xn--bcher-kva.example"),
        ("user-.bücher.example", "user-.xn--bcher-kva.example"),
        ("user-.example.com", "user-.example.com"),
        ("-user.example.com", "-user.example.com"),
        ("r3---sn-a.example", "r3---sn-a.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("127.0.0.1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("dead.beef", "dead.beef"),
        ("1.2.3.example", "1.2.3.example"),
        ("0xg", "0xg"),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
    ],
)
def test_hosts_in_their_canonical_form(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "a\u200db.org",
        "\u0301a.org",
        "אa.org",
        "\u00ad.org",
        "a" * 64,
        "a." * 128,
        "a b",
        "a/b",
        "a\n",
        "ü" * 300,
        "\udc80",
        "::1%e\r\nth0",
        "::1%",
        "[::1]",
        "1::2::3",
        "℀.example",
        "a\0",
        "*",
    ],
)
def test_a_text_that_is_neither_name_nor_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a host name or an IP address, found "):
        parse_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.1",
        "0x7f.1",
        "017700000001",
        "2130706433",
        "0x7f000001",
        "127.0.0.01",
        "1.2.3.4.",
        "a.1",
        "a.0x",
        "256.0.0.1",
        "1.2.3.4.5",
        "１２７.１",
        "127。0。0。1",
    ],
)
def test_a_name_that_a_resolver_would_take_for_an_ipv4_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected an IPv4 address as four decimal numbers, found "):
        parse_host(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_port("0"), "expected a port from 1 to 65535, found '0'"),
        (lambda: parse_port("65536", lowest=0), "expected a port from 0 to 65535, found '65536'"),
        (lambda: parse_port("+80"), "expected a port from 1 to 65535, found '+80'"),
        (lambda: parse_port("８０"), "expected a port from 1 to 65535, found '８０'"),
        (lambda: parse_port_range("2-1"), "expected the lower port first, found '2-1'"),
        (lambda: parse_port_range("1-"), "expected a port from 1 to 65535, found ''"),
        (
            lambda: parse_target("::1:80"),
            "expected host:port (an IPv6 address in brackets), found '::1:80'",
        ),
        (
            lambda: split_fields("[::1]x:80"),
            "expected brackets only around a whole IPv6 address, found '[::1]x:80'",
        ),
        (
            lambda: split_fields("[127.0.0.1]:80"),
            "expected brackets only around a whole IPv6 address, found '[127.0.0.1]:80'",
        ),
        (lambda: parse_tox_id("12"), "expected a Tox ID of 76 hexadecimal digits, found 2 characters"),
        (
            lambda: parse_tox_id(KEY),
            "expected a whole Tox ID of 76 hexadecimal digits, found a public key of 64",
        ),
        (
            lambda: parse_key("x"),
            "expected a public key of 64 hexadecimal digits or a Tox ID of 76, found 'x'",
        ),
        (lambda: parse_public_key("x"), "expected a public key of 64 hexadecimal digits, found 'x'"),
        (
            lambda: parse_proxy_url("http://me:pw@h:1", "socks5"),
            "expected socks5://host:port, found something else",
        ),
    ],
)
def test_errors_say_what_was_expected_and_found(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("scheme", ["tox:", "TOX:", "tox://", "Tox://"])
def test_a_tox_id_may_be_a_uri(scheme: str) -> None:
    tox_id = checksummed(bytes.fromhex(KEY) + bytes(4))
    digits = tox_id.hex().upper()
    assert parse_tox_id(scheme + digits).raw == tox_id
    assert parse_key(scheme + digits) == parse_key(scheme + KEY) == bytes.fromhex(KEY)
    assert split_listener(f"[::1]:80:{scheme}{digits}") == ["::1", "80", digits]
    assert split_listener(f"80:tox:22:{digits}") == ["80", "tox", "22", digits]


@pytest.mark.parametrize("text", ["tox:", "tox:tox:12", "tox:///12"])
def test_a_uri_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a Tox ID of 76"):
        parse_tox_id(text)


def test_a_comment_after_a_tox_id_that_begins_with_a_hash_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"^expected a Tox ID, found one with `#` behind it: "):
        parse_tox_id(KEY + " # my server")


@pytest.mark.parametrize("text", ["080", "000080", "0" * 1000 + "80"])
def test_a_port_may_have_leading_zeros(text: str) -> None:
    assert parse_port(text) == 80


def test_a_range_of_one_port() -> None:
    assert parse_port_range("80") == (80, 80)
    assert parse_port_range("8000-8100") == (8000, 8100)


def test_a_star_as_the_local_address_is_every_address() -> None:
    assert parse_bind_host("*") == ""
    assert str(Bind("", 80)) == "*:80"
    assert str(Bind("::1", 80)) == "[::1]:80"


def test_only_an_ipv6_address_is_put_in_brackets() -> None:
    assert join_host_port("::1", 80) == "[::1]:80"
    assert join_host_port("example.org", 80) == "example.org:80"
    assert ipaddress.ip_address(split_fields(join_host_port("::1", 80))[0]).is_loopback


def test_an_error_shows_only_the_beginning_of_a_long_input() -> None:
    assert shown("a\n") == r"'a\n'"
    assert shown("a" * 61) == repr("a" * 60) + "…"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_plain_address_has_no_zone_and_is_ipv4_where_it_was_mapped(text: str, plain: str) -> None:
    assert str(plain_address(text)) == plain
