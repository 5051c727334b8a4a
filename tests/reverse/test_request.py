"""What the two ends write to each other for a listener."""

from __future__ import annotations

import pytest

from toxproxy.address import Bind, Target, UdpTarget, UnixBind
from toxproxy.reverse.request import Request, listener, parse_listener, parse_request, parse_told, told


@pytest.mark.parametrize(
    ("request_", "host"),
    [
        (Request(Bind("127.0.0.1", 8080)), "listen:tcp:127.0.0.1:8080"),
        (Request(Bind("", 0)), "listen:tcp:*:0"),
        (Request(Bind("::1", 53), udp=True), "listen:udp:[::1]:53"),
        (Request(UnixBind("/run/x.sock")), "listen:tcp:unix:/run/x.sock"),
    ],
)
def test_a_request_there_and_back(request_: Request, host: str) -> None:
    assert request_.target == Target(host, 1)
    assert request_.target.asks_to_listen
    assert parse_request(host) == request_


@pytest.mark.parametrize(
    "host",
    [
        "listen:",
        "listen:tcp:",
        "listen:sctp:127.0.0.1:1",
        "listen:tcp:8080",
        "listen:tcp:localhost:8080",
        "listen:tcp:127.0.0.1:65536",
        "listen:tcp:127.0.0.1:80:90",
        "listen:udp:unix:/run/x",
        "listen:tcp:unix:/run/../x",
        "listen:tcp:unix:/run/x,mode=666",
        "listen:tcp:[127.0.0.1:80",
    ],
)
def test_what_is_no_request(host: str) -> None:
    with pytest.raises(ValueError, match=r"expected|does not appear"):
        parse_request(host)


def test_where_the_server_listens() -> None:
    assert told(("0.0.0.0:80", "[::]:80")) == b"0.0.0.0:80 [::]:80\n"
    assert parse_told(b"0.0.0.0:80 [::]:80") == ("0.0.0.0:80", "[::]:80")
    for bad in (b"", b" ", b"a  b", b"a\n", b"\x1b[2J:80", b"\xff", b"x" * 200, b" ".join([b"a"] * 17)):
        with pytest.raises(ValueError, match=r"expected|codec"):
            parse_told(bad)


def test_the_listener_of_a_stream() -> None:
    target = listener(7, Request(Bind("127.0.0.1", 8080)))
    assert (target.host, target.port, str(target)) == ("listener:7", 1, "127.0.0.1:8080")
    assert isinstance(listener(7, Request(Bind("", 53), udp=True)), UdpTarget)
    assert parse_listener("listener:4294967295") == 4294967295
    for host in ("listener:", "listener:0", "listener:07", "listener:-1", "listener:\u0667", "127.0.0.1"):
        assert parse_listener(host) is None
