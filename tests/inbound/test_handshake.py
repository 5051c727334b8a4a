"""The SOCKS handshake as bytes in and bytes out: whole, byte by byte, and with trailing data."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.address import Target
from toxproxy.errors import Refusal
from toxproxy.inbound.handshake import Credentials, Handshake, HandshakeError, WrongLogin

ALICE = Credentials(b"alice", b"secret")
GREETING = b"\x05\x01\x00"
LOGIN_GREETING = b"\x05\x02\x00\x02"
LOGIN = b"\x01\x05alice\x06secret"
TO_NAME = b"\x05\x01\x00\x03\x0bexample.org\x01\xbb"
FAILED_5 = b"\x05\x01\x00\x01" + bytes(6)
REJECTED_4 = b"\x00\x5b" + bytes(6)

ACCEPTED = {
    "SOCKS5 with a name": (None, GREETING + TO_NAME, b"\x05\x00", Target("example.org", 443)),
    "SOCKS5 with an IPv4 address": (
        None,
        GREETING + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
        b"\x05\x00",
        Target("127.0.0.1", 80),
    ),
    "SOCKS5 with an IPv6 address": (
        None,
        GREETING + b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50",
        b"\x05\x00",
        Target("::1", 80),
    ),
    "SOCKS5 with an address written as a name": (
        None,
        GREETING + b"\x05\x01\x00\x03\x03::1\x00\x50",
        b"\x05\x00",
        Target("::1", 80),
    ),
    "SOCKS5 with a name in another script": (
        None,
        GREETING + b"\x05\x01\x00\x03\x0a" + "bücher.de".encode() + b"\x00\x50",
        b"\x05\x00",
        Target("xn--bcher-kva.de", 80),
    ),
    "SOCKS5 offering more methods than are needed": (
        None,
        b"\x05\x03\x02\x01\x00" + TO_NAME,
        b"\x05\x00",
        Target("example.org", 443),
    ),
    "SOCKS5 with user name and password": (
        ALICE,
        LOGIN_GREETING + LOGIN + TO_NAME,
        b"\x05\x02\x01\x00",
        Target("example.org", 443),
    ),
    "SOCKS4": (None, b"\x04\x01\x00\x50\x7f\x00\x00\x01me\x00", b"", Target("127.0.0.1", 80)),
    "SOCKS4 without a user id": (None, b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"", Target("127.0.0.1", 80)),
    "SOCKS4 to 0.0.0.0, which is no name": (
        None,
        b"\x04\x01\x00\x50\x00\x00\x00\x00\x00",
        b"",
        Target("0.0.0.0", 80),
    ),
    "SOCKS4a": (
        None,
        b"\x04\x01\x01\xbb\x00\x00\x00\x07me\x00example.org\x00",
        b"",
        Target("example.org", 443),
    ),
}

TURNED_AWAY = {
    "another version": (None, b"\x06\x01\x00", b""),
    "no method at all": (None, b"\x05\x00", b"\x05\xff"),
    "only a login, where none is configured": (None, b"\x05\x01\x02", b"\x05\xff"),
    "no login, where one is needed": (ALICE, b"\x05\x01\x00", b"\x05\xff"),
    "a wrong password": (ALICE, LOGIN_GREETING + b"\x01\x05alice\x05wrong", b"\x05\x02\x01\x01"),
    "a wrong user name": (ALICE, LOGIN_GREETING + b"\x01\x05mally\x06secret", b"\x05\x02\x01\x01"),
    "an empty login": (ALICE, LOGIN_GREETING + b"\x01\x00\x00", b"\x05\x02\x01\x01"),
    "a login of another version": (ALICE, LOGIN_GREETING + b"\x05", b"\x05\x02\x01\x01"),
    "BIND": (None, GREETING + b"\x05\x02" + TO_NAME[2:], b"\x05\x00\x05\x07\x00\x01" + bytes(6)),
    "an unknown address type": (
        None,
        GREETING + b"\x05\x01\x00\x09",
        b"\x05\x00\x05\x08\x00\x01" + bytes(6),
    ),
    "a request of another version": (None, GREETING + b"\x04\x01\x00\x01", b"\x05\x00" + FAILED_5),
    "port 0": (None, GREETING + b"\x05\x01\x00\x03\x01a\x00\x00", b"\x05\x00" + FAILED_5),
    "an empty name": (None, GREETING + b"\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00" + FAILED_5),
    "a name with a line break": (
        None,
        GREETING + b"\x05\x01\x00\x03\x03a\nb\x00\x50",
        b"\x05\x00" + FAILED_5,
    ),
    "a name that is no text": (None, GREETING + b"\x05\x01\x00\x03\x01\xff\x00\x50", b"\x05\x00" + FAILED_5),
    "SOCKS4 BIND": (None, b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00", REJECTED_4),
    "SOCKS4 where a password is needed": (ALICE, b"\x04\x01\x00\x50\x7f\x00\x00\x01alice\x00", REJECTED_4),
    "SOCKS4 to port 0": (None, b"\x04\x01\x00\x00\x7f\x00\x00\x01\x00", REJECTED_4),
    "SOCKS4 with an endless user id": (None, b"\x04\x01\x00\x50\x7f\x00\x00\x01" + b"u" * 300, REJECTED_4),
    "SOCKS4a with an endless name": (
        None,
        b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"n" * 300,
        REJECTED_4,
    ),
    "SOCKS4a without a name": (None, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", REJECTED_4),
}


@pytest.mark.parametrize("trailing", [b"", b"\x16\x03\x01", b"\x00" * 100])
@pytest.mark.parametrize(("credentials", "data", "replies", "target"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_request_that_comes_whole(credentials, data, replies, target, trailing):
    handshake = Handshake(credentials)
    assert handshake.receive(data + trailing) == replies
    assert handshake.target == target
    assert handshake.rest == trailing


@pytest.mark.parametrize(("credentials", "data", "replies", "target"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_request_that_comes_byte_by_byte(credentials, data, replies, target):
    handshake = Handshake(credentials)
    sent = b""
    for position, byte in enumerate(data):
        assert handshake.target is None, f"complete with {len(data) - position} bytes still to come"
        sent += handshake.receive(bytes([byte]))
    assert sent == replies
    assert handshake.target == target
    assert handshake.receive(b"more") == b""
    assert handshake.rest == b"more"


@pytest.mark.parametrize(("credentials", "data", "replies"), TURNED_AWAY.values(), ids=TURNED_AWAY)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_refused_handshake(credentials, data, replies, step):
    handshake = Handshake(credentials)
    sent = b""

    def feed() -> None:
        nonlocal sent
        for start in range(0, len(data), step):
            sent += handshake.receive(data[start : start + step])

    with pytest.raises(HandshakeError) as error:
        feed()
    assert sent + error.value.reply == replies
    assert str(error.value)
    assert handshake.target is None
    assert handshake.receive(b"anything") == b""


REFUSED = {
    Refusal.FAILED: 1,
    Refusal.NOT_PERMITTED: 2,
    Refusal.NETWORK_UNREACHABLE: 3,
    Refusal.HOST_UNREACHABLE: 4,
    Refusal.CONNECTION_REFUSED: 5,
    Refusal.TIMED_OUT: 6,
    Refusal.UNSUPPORTED: 7,
    Refusal.NAME_NOT_FOUND: 4,
    Refusal.TOO_MANY_STREAMS: 1,
    Refusal.ADDRESS_IN_USE: 1,
    Refusal.OFFLINE: 3,
    Refusal.QUOTA_USED: 2,
}


@pytest.mark.parametrize("code", Refusal)
def test_the_last_reply_has_the_code_of_the_refusal(code):
    five, four = Handshake(), Handshake()
    five.receive(GREETING + TO_NAME)
    four.receive(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00")
    assert five.refused(code) == bytes((5, REFUSED[code], 0, 1)) + bytes(6)
    assert four.refused(code) == REJECTED_4
    assert five.granted() == b"\x05\x00\x00\x01" + bytes(6)
    assert four.granted() == b"\x00\x5a" + bytes(6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(bounds)]


STARTS = [
    b"",
    b"\x04",
    b"\x05",
    GREETING,
    LOGIN_GREETING,
    LOGIN_GREETING + LOGIN,
    b"\x04\x01\x00\x50\x00\x00\x00\x01",
]


@given(
    start=st.sampled_from(STARTS),
    noise=st.binary(max_size=2000),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    credentials=st.sampled_from([None, ALICE]),
)
def test_arbitrary_bytes_are_a_request_or_an_error_in_pieces_of_any_size(start, noise, cuts, credentials):
    def outcome(parts: list[bytes]) -> tuple[object, ...]:
        handshake = Handshake(credentials)
        sent = b""
        try:
            for part in parts:
                sent += handshake.receive(part)
                assert handshake.target is not None or len(handshake._buffer) < 1024
        except HandshakeError as error:
            return (sent + error.reply, str(error))
        return (sent, handshake.target, handshake.rest)

    data = start + noise
    assert outcome(pieces(data, cuts)) == outcome([data])


@given(
    username=st.binary(min_size=1, max_size=255),
    password=st.binary(max_size=255),
    guess=st.binary(max_size=255),
)
def test_only_the_right_login_is_accepted(username, password, guess):
    handshake = Handshake(Credentials(username, password))
    handshake.receive(LOGIN_GREETING)
    login = bytes((1, len(username))) + username + bytes((len(guess),)) + guess
    if guess == password:
        assert handshake.receive(login) == b"\x01\x00"
    else:
        with pytest.raises(HandshakeError):
            handshake.receive(login)


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (b"\x05\x03\x00\x01" + bytes(6), ("0.0.0.0", 0)),
        (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x30\x39", ("127.0.0.1", 12345)),
        (b"\x05\x03\x00\x04" + bytes(15) + b"\x01\x30\x39", ("::1", 12345)),
        (b"\x05\x03\x00\x03\x01x\x30\x39", ("0.0.0.0", 12345)),  # a name is no address to compare with
    ],
)
def test_udp_associate_names_from_where_the_client_will_send(request_, asked, step):
    handshake = Handshake()
    data = GREETING + request_
    for start in range(0, len(data), step):
        handshake.receive(data[start : start + step])
    assert handshake.done
    assert handshake.association == asked
    assert handshake.target is None
    assert handshake.associated("127.0.0.1", 258) == b"\x05\x00\x00\x01\x7f\x00\x00\x01\x01\x02"
    assert handshake.associated("fe80::1%eth0", 258)[3:6] == b"\x04\xfe\x80"


# The user name as an exit


def greeted(handshake: Handshake, methods: bytes) -> bytes:
    return handshake.receive(bytes([5, len(methods)]) + methods)


def logged_in(handshake: Handshake, username: bytes, password: bytes) -> bytes:
    return handshake.receive(bytes([1, len(username)]) + username + bytes([len(password)]) + password)


def test_a_user_name_picks_an_exit_and_needs_no_password() -> None:
    handshake = Handshake(exits=("home", "office"))
    assert greeted(handshake, b"\x00\x02") == b"\x05\x02"
    assert logged_in(handshake, b"office", b"") == b"\x01\x00"
    assert handshake.exit == "office"


def test_a_client_without_a_user_name_goes_its_usual_way() -> None:
    handshake = Handshake(exits=("home",))
    assert greeted(handshake, b"\x00") == b"\x05\x00"
    assert handshake.exit is None


def test_a_user_name_that_is_no_exit_is_refused() -> None:
    handshake = Handshake(exits=("home",))
    greeted(handshake, b"\x00\x02")
    with pytest.raises(WrongLogin, match="no exit has this user name"):
        logged_in(handshake, b"hom", b"")


def test_without_exits_a_user_name_is_not_asked_for() -> None:
    assert greeted(Handshake(), b"\x00\x02") == b"\x05\x00"


@pytest.mark.parametrize(
    ("username", "password", "right"),
    [
        (b"home", b"s3cret", True),
        (b"home", b"", False),
        (b"home", b"wrong", False),
        (b"alice", b"s3cret", True),
        (b"office", b"s3cret", False),
    ],
)
def test_where_the_port_has_a_password_an_exit_needs_it(
    username: bytes, password: bytes, right: bool
) -> None:
    handshake = Handshake(Credentials(b"alice", b"s3cret"), ("home",))
    greeted(handshake, b"\x02")
    if right:
        assert logged_in(handshake, username, password) == b"\x01\x00"
        assert handshake.exit == ("home" if username == b"home" else None)
    else:
        with pytest.raises(WrongLogin):
            logged_in(handshake, username, password)
