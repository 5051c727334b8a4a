"""Real examples for the corpus: input from honest peers, clients and files.

For a target that reads decisions from its bytes, an example is a script of moves.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz import links, multiplexer, near, pairing, recovery, router, sessions, streams
from fuzz.peer import packed
from toxproxy.mux import frames
from toxproxy.recovery import packet
from toxproxy.tox.pytox import Tox, ToxOptions

Move = tuple[Callable[..., object], bytes]  # the move, and the bytes from which it reads its decisions

_CONFIGURATIONS = Path(__file__).parents[1] / "examples"
_KEY = "FEDCBA9876543210" * 4

_FRAMES: tuple[frames.Frame, ...] = (
    frames.Hello(2, 2, 3, frames.LZ4, 16384, 8192),
    frames.Ping(7),
    frames.Pong(7),
    frames.Open(1, frames.TCP, 16384, 443, "www.example.org"),
    frames.Opened(1, 1 << 20),
    frames.Refused(1, 5, "connection refused"),
    frames.Data(1, 7, b"GET / HTTP/1.1\r\n\r\n"),
    frames.Fin(1, 25),
    frames.Reset(1, 2),
    frames.Credit(1, 25, 1 << 20),
    frames.Bulk(1, 7, b"GET / HTTP/1.1\r\n\r\n"),
    frames.Packed(1, 25, 60, packed(60 * b"x")),
    frames.Datagram(3, b"a question"),
    frames.Part(3, 7, 3000, 1300, 1300 * b"x"),
)
_GREETING = b"\x05\x01\x00"
_SOCKS = {
    "socks5-name": b"-" + _GREETING + b"\x05\x01\x00\x03\x0bexample.org\x01\xbbhello",
    "socks5-ipv4": b"-" + _GREETING + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50hello",
    "socks5-ipv6": b"-" + _GREETING + b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50",
    "socks5-idna": b"-" + _GREETING + b"\x05\x01\x00\x03\x0a" + "bücher.de".encode() + b"\x00\x50",
    "socks5-login": b"L\x05\x02\x00\x02\x01\x05alice\x06secret\x05\x01\x00\x03\x01a\x00\x50",
    "socks5-bind": b"-" + _GREETING + b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50",
    "socks4": b"-\x04\x01\x00\x50\x7f\x00\x00\x01me\x00hello",
    "socks4-endless": b"-\x04\x01\x00\x50\x7f\x00\x00\x01" + 1200 * b"u",
    "socks4a": b"-\x04\x01\x01\xbb\x00\x00\x00\x07me\x00example.org\x00hello",
}
_REQUESTS = {
    "get": b"GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n",
    "port": b"GET http://[2001:db8::1]:8080/ HTTP/1.1\r\nHost: x\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
    "old": b"GET http://example.org HTTP/1.0\r\n\r\n",
    "head": b"HEAD http://me@example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "post": b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "chunks": b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "options": b"OPTIONS http://example.org HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "upgrade": b"GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "login": b"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n",
    "origin": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "connect": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\nhello",
}
_RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nKeep-Alive: x\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Y: z\r\n\r\n",
    "until-end": b"HTTP/1.0 404 Not Found\r\n\r\nall that follows",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    "426": b"HTTP/1.1 426 Upgrade\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
}
_ID = _KEY + "0" * 12
_CONFIGURATION = f"""\
[client]
ssh = 2222:127.0.0.1:22:{_ID}
six = [::1]:8081:[2001:db8::1]:80:{_ID}
[reverse]
web = 8080:127.0.0.1:3000:{_ID}
dns = *:5353:[::1]:53/tcp+udp:{_ID}
way = socks:alice:s3cret@1081:{_ID}
permit = *:80-89, 10.0.0.0/8:*
[client laptop]
key = {_KEY}
listen = 127.0.0.1:8080, *:5353/tcp+udp, unix:/run/x
[socks]
browser = 1080:{_ID}
shared = alice:s3cret@*:1081:{_ID} ; for all
[compress]
ssh = no
default = yes
[server]
name = home
[access]
allow = {_KEY},
        {_ID}, *
secret = a long pass phrase
permit = 127.0.0.1:22, *.lan:80-89, 10.0.0.0/8:*, [2001:db8::/32]:443
deny = 169.254.0.0/16:*, private:1-79, self:*, linklocal:*, loopback:81
[client my laptop]
key = {_KEY}
permit = 127.0.0.1:22, *.lan:*/tcp+udp
deny = secret.lan:*
rate = 2M/500K
quota = 50G
expires = 2027-01-31 18:00 +01:00
[client tv]
key = {"1E" * 32}
expires = 2027-01-31
[exit]
upstream = socks5://user:password@127.0.0.1:9050
connect_timeout = 10
[tox]
bootstrap = 192.0.2.1:33445:{_KEY}
udp = no
port = 33445-33545
tcp_relay = 0
local_discovery = yes
port_mapping = no
proxy = socks5://127.0.0.1:9050
wait = 30
"""
_CLIENTS = {
    "all": {
        _KEY: {"by": "command"},
        _KEY[::-1]: {"by": "anyone"},
        "0" * 64: {"by": "secret", "secret": "0123456789abcdef" * 4},
    },
    "none": {},
    "other": [],
}
_PCP = bytes.fromhex("02810000000002580000004d") + bytes(12)
_IPV6 = bytes.fromhex("20010db8") + bytes(12)
_PCP_EXTERNAL = bytes.fromhex("82a59c4000000000000000000000ffff08080404")
_WAN_IP = "urn:schemas-upnp-org:service:WANIPConnection:1"
_UPNP = {
    "found": b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://192.168.1.1:49000/igd.xml\r\n\r\n",
    "description": (
        '<root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://192.168.1.1:80/</URLBase><device>'
        f"<serviceList><service><serviceType>{_WAN_IP}</serviceType><controlURL>ctl</controlURL></service>"
        "</serviceList></device></root>"
    ).encode(),
    "address": (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<u:GetExternalIPAddressResponse xmlns:u="{_WAN_IP}"><NewExternalIPAddress>8.8.4.4'
        "</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>"
    ).encode(),
    "error": b"<Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></Fault>",
    "entities": b'<!DOCTYPE r [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><root>&c;</root>',
}
_QUESTIONS = {
    "allow": {"version": 1, "method": "allow", "params": {"key": _KEY}},
    "no-key": {"version": 1, "method": "allow"},
    "unknown": {"version": 1, "method": "stop", "params": {}},
    "later": {"version": 2, "method": "allow", "params": {"key": _KEY}},
    "no-object": [1, 2],
}


_ROUTES = """\
default
*.lan
private
10.0.0.0/8:80-443
[2001:db8::/32]
*:25
printer:631
"];alert(1)
nas.lan:25"""


def examples() -> dict[str, dict[str, bytes]]:
    """The inputs of each target, by the name of their file."""
    return {
        "frame": {frames.name(type(frame)).lower(): frames.encode(frame) for frame in _FRAMES},
        "block": {"three": 3 * _text(b"toxproxy", 40), "large": _text(b"x", 255)},
        "parts": _parts(),
        "client": _multiplexer(),
        "server": _multiplexer(),
        "streams": _streams() | _dice(1, 2),
        "recovery": _dice(1, 2, 3),
        "sender": _recovery() | _dice(1, 2, 3),
        "path": {"good": b"\0\0\0" + 20 * b"\0\1\x20\0", "bad": bytes(3) + 300 * b"\0\1\x20\0\3\4"},
        "session": _sessions() | _dice(1, 2),
        "filter": _dice(1, 2, 3),
        "enet": _dice(1, 2, 3, 4),
        "packets": {"clean": bytes(200), "friend-left": bytes(40) + b"\x01" + bytes(80)},
        "links": _links(),
        "assembly": _dice(1, 2, 3),
        "socksudp": {
            "ipv4": b"\0\0\0\x01\x7f\0\0\x01\0\x35query",
            "name": b"\0\0\0\x03\x0bexample.org\0\x35query",
            "ipv6": b"\0\0\0\x04" + bytes(15) + b"\x01\0\x35query",
            "fragment": b"\0\0\x01\x01\x7f\0\0\x01\0\x35query",
        },
        "socks": dict(_SOCKS)
        | {
            "exit": b"E\x05\x02\0\x02\x01\x04home\0\x05\x01\0\x01\x7f\0\0\x01\0\x50",
            "socks5-udp": b"-" + _GREETING + b"\x05\x03\x00\x01" + bytes(6),
        },
        "http": _pairs(lambda request, response: request + b"\0" + response),
        "proxy": _pairs(_conversation)
        | {name: said + near.ANSWERS + _answer(b"hello") for name, said in _SOCKS.items()},
        "config": {"all.ini": _CONFIGURATION.encode(), "bell.ini": b"[socks]\na\7b = 1080:" + _ID.encode()}
        | {path.name: path.read_bytes() for path in sorted(_CONFIGURATIONS.glob("*.ini"))},
        "clients": {name: b"*" + json.dumps(content).encode() for name, content in _CLIENTS.items()},
        "identity": {"new": _identity()},
        "routes": {"all": _ROUTES.encode(), "address": b"10.1.0.0/16\n*\n10.1.2.3:443"},
        "listen": {
            "tcp": b"127.0.0.1:8000-8100\n*:80/udp\nlisten:tcp:127.0.0.1:8080",
            "udp": b"[::1]:53/tcp+udp\n*:*/udp\nlisten:udp:[::1]:53",
            "every": b"0.0.0.0:80\n*:80\nlisten:tcp:*:80",
            "unix": b"unix:/run/x\nlisten:tcp:unix:/run/x",
            "listener": b"*:*\nlistener:7",
        },
        "told": {"one": b"127.0.0.1:8080", "two": b"0.0.0.0:80 [::]:80"},
        "friend": {
            "where": bytes.fromhex("ba01")
            + bytes(32)
            + bytes.fromhex("01 04c00002018235 06")
            + _IPV6
            + b"\x82\x35",
            "relays": bytes.fromhex("ba02 04c00002010d3d")
            + bytes(32)
            + b"\x06"
            + _IPV6
            + b"\x0d\x3d"
            + bytes(32),
        },
        "pcp": {
            "granted": _PCP + router.NONCE + bytes.fromhex("11000000") + _PCP_EXTERNAL,
            "announced": bytes.fromhex("0280") + bytes(22),
            "version-0": bytes.fromhex("0081000100000000"),
        },
        "natpmp": {
            "mapped": bytes.fromhex("008100000000004d82a59c4000000258"),
            "address": bytes.fromhex("008000000000004d08080404"),
            "refused": bytes.fromhex("008100020000004d"),
        },
        "upnp": _UPNP,
        "control": {name: json.dumps(asked).encode() + b"\n" for name, asked in _QUESTIONS.items()},
        "words": {
            "words": b"abandon Zoo candy orbit skin hello",
            "link": b"toxproxy://join/abandon-zoo-candy-orbit-skin-hello",
            "mistyped": b"abandn zoo candy orbit skin hello",
        },
        "pairing": _pairing() | _dice(1, 2, 3),
    }


def _text(raw: bytes, times: int) -> bytes:
    return bytes((len(raw),)) + raw + bytes((times, 0, 0))


def _pairs(join: Callable[[bytes, bytes], bytes]) -> dict[str, bytes]:
    """Pairs in which each request and each response occurs."""
    pairs = {name: join(request, _RESPONSES["length"]) for name, request in _REQUESTS.items()}
    for name, response in _RESPONSES.items():
        request = _REQUESTS["upgrade" if name == "switch" else "get"]
        pairs[f"response-{name}"] = join(request, response)
    return pairs


def _conversation(request: bytes, response: bytes) -> bytes:
    """The same request and response twice on one connection."""
    return b"-" + request + request + near.ANSWERS + _answer(response + response)


def _answer(said: bytes) -> bytes:
    """The choices of a server that is reached and sends this."""
    return b"\0" + len(said).to_bytes(2) + said


def _script(moves: Sequence[Callable[..., object]], *script: Move) -> bytes:
    return b"".join(bytes((moves.index(move),)) + decisions for move, decisions in script)


def _parts() -> dict[str, bytes]:
    return {
        "close": packet.close(0, "the program is stopping"),
        "introduction": packet.header(packet.INTRODUCTION, 1) + packet.ids(1, 2),
        "acknowledgement": packet.header(packet.ACK, 9)
        + packet.acknowledgement(3, 1.0, 1.01, [(5, 9), (1, 3)], 32),
    }


def _multiplexer() -> dict[str, bytes]:
    game, greeted = multiplexer.Game, b"\x01"
    asked: list[Move] = [(game.ask, bytes(5) + b"\x50\0"), (game.accept, b"\0\1")]
    opened: list[Move] = [(game.open, b"\0\1"), (game.send, b"\0"), (game.answer, bytes(3))]
    flowing: list[Move] = [
        (game.flow, b"\0\0\0\x40\0\0"),
        (game.flow, b"\0\5\0\x20\0\0"),
        (game.take, b"\0\x30"),
        (game.flow, b"\0\0\0\x20\2\0"),
        (game.write, b"\0\1\0"),
        (game.send, b"\0"),
        (game.lose, b"\0\0"),
        (game.send, b"\0"),
        (game.arrive, b"\0"),
    ]
    ending: list[Move] = [
        (game.flow, b"\0\0\0\0\3\0"),
        (game.take, b"\0\x30"),
        (game.end, b"\0\0"),
        (game.send, b"\0"),
    ]
    flow: list[Move] = [(game.ask, b"\2" + bytes(4) + b"\x50\0"), (game.accept, b"\0\1")]
    datagrams: list[Move] = [
        (game.flow, b"\0\0\x40" + 64 * b"x" + bytes(6)),
        (game.write, b"\0\2\0\2"),
        (game.send, b"\0"),
        (game.send, b"\1"),
        (game.lose, b"\0\0"),
        (game.end, b"\0"),
    ]
    early: list[Move] = [(game.overtake, b"\0\0\0\5\0"), (game.overtake, b"\1\0\x20\1\0")]
    moves = multiplexer.MOVES
    return {
        "asked": greeted + _script(moves, *asked, *flowing, *ending),
        "opened": greeted + _script(moves, *opened, *flowing, *ending),
        "overtaken": greeted + _script(moves, *early, *asked, *flowing, *ending),
        "datagrams": greeted + _script(moves, *flow, *datagrams),
        "reset": greeted + _script(moves, *asked, *flowing, (game.end, b"\0\2"), (game.send, b"\0")),
        "ignored": greeted + _script(moves, *asked, (game.end, b"\0\1"), *flowing),
    }


def _streams() -> dict[str, bytes]:
    pair, client, server = streams.Pair, b"\0", b"\1"

    def script(*acts: tuple[Callable[..., object], bytes, bytes]) -> bytes:
        return b"".join(side + bytes((streams.MOVES.index(act),)) + choices for act, side, choices in acts)

    opened = (
        (pair.open, client, b"\1\1\0\x40\1"),
        (pair.send, client, b"\0\3"),
        (pair.arrive, client, b"\0\1"),
    )
    flowing = (pair.write, client, b"\0\x40\0"), (pair.send, client, b"\0\3"), (pair.lose, client, b"\0\1")
    reading = (pair.accept, server, b"\0\0"), (pair.take, server, b"\0\1\0"), (pair.send, server, b"\0\3")
    return {"lossy": b"\0\0\1\x20" + script(*opened, *flowing, *reading, *flowing)}


def _recovery() -> dict[str, bytes]:
    side = recovery.Side
    offered: Move = (side.offer, b"\0\x20")
    heard: Move = (side.hear_acknowledgement, b"\0\0\0\0\0\0\0\3\5\1")
    script = _script(
        recovery.MOVES, offered, (side.wait, b"\2"), heard, offered, (side.wait, b"\2"), heard, heard
    )
    links = _script(recovery.MOVES, (side.relink, b""), (side.wait_until_due, b"\0"), heard, offered)
    return {"acknowledged": b"\0\1" + script, "links": b"\0\1" + script + links}


def _sessions() -> dict[str, bytes]:
    game = sessions.Game
    dials = b"".join(bytes((0, how, 0)) for how in (0, 20, 46, 90, 3, 4))
    cut = bytes((sessions.MOVES.index(game.cut_and_begin), 1, 0))
    return {"cut": b"\0\0\0\0" + dials + cut + dials + cut}


def _links() -> dict[str, bytes]:
    friend = links.Friend
    script = _script(
        links.MOVES,
        (friend.ask, b"\0\1\0"),
        (friend.vanish, b""),
        (friend.introduce, b"\0\0\0"),
        (friend.ask, b"\0\2\0"),
        (friend.leave, b"\1"),
        (friend.greet, b""),
    )
    return {"begins": b"\1\1" + script, "takes": b"\0\1" + script}


def _pairing() -> dict[str, bytes]:
    game = pairing.Game
    to_inviter: Move = (game.pass_on, b"\0")
    to_joiner: Move = (game.pass_on, b"\1")
    proven = (to_inviter, to_joiner, to_inviter, to_joiner, to_inviter)
    joined = (*proven, (game.welcome, b""), to_joiner, to_inviter, to_joiner)
    changed: Move = (game.repeat, b"\0\1\1\x20\1\0")
    other: Move = (game.invent, b"\0\2\0\0\1\x01")
    return {
        "joined": _script(pairing.MOVES, *joined),
        "changed": _script(pairing.MOVES, *proven[:-1], changed, to_inviter),
        "again": _script(pairing.MOVES, *proven[:3], other, *joined),
    }


def _dice(*seeds: int) -> dict[str, bytes]:
    """Random inputs, for targets that read decisions from their bytes."""
    return {f"dice-{seed}": random.Random(seed).randbytes(600) for seed in seeds}


def _identity() -> bytes:
    tox = Tox(ToxOptions(udp_enabled=False, local_discovery_enabled=False))
    try:
        return tox.get_savedata()
    finally:
        tox.kill()
