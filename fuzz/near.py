"""Targets: what a client of the proxy port sends, and what the server that it asks for answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import h11

from fuzz import scene
from fuzz.choices import Choices
from toxproxy.address import Bind, Target, ToxId, UdpTarget
from toxproxy.config.settings import ProxyPort
from toxproxy.dialer import Flow, FlowOwner, P
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.http.reader import HttpReader
from toxproxy.inbound import http_message
from toxproxy.inbound.handshake import Credentials, Handshake, HandshakeError
from toxproxy.inbound.http_message import RequestError
from toxproxy.mux import frames
from toxproxy.relay.stream import ByteStream
from toxproxy.socks import ProxyListener

_LOGIN = Credentials(b"alice", b"secret")
_LOOPBACK = Bind("127.0.0.1", 0)
_NOBODY = ToxId(bytes(38))
_UNFINISHED = 1024  # the most bytes that an unfinished handshake keeps
ANSWERS = b"\0ANSWERS\0"  # separates the client's bytes from the servers'
_TURNS = 40  # turns of the event loop: enough to deliver what a few sockets have sent


def socks(data: bytes) -> None:
    """A handshake has the same result whole and byte by byte. A stream to its target can be opened."""
    login = (_LOGIN if data[:1] == b"L" else None, ("alice", "home") if data[:1] == b"E" else ())
    whole = _shake(*login, [data[1:]])
    assert whole == _shake(*login, [data[at : at + 1] for at in range(1, len(data))])
    _, target, rest = whole
    assert data.endswith(rest)
    if target is not None:
        _can_be_asked_for(target)


def _shake(
    credentials: Credentials | None, exits: tuple[str, ...], pieces: list[bytes]
) -> tuple[bytes, Target | None, bytes]:
    handshake, said = Handshake(credentials, exits), b""
    for piece in pieces:
        try:
            said += handshake.receive(piece)
        except HandshakeError as error:
            assert handshake.target is None
            said += error.reply
        assert handshake.done or len(handshake._buffer) < _UNFINISHED
    return said, handshake.target, handshake.rest


def _can_be_asked_for(target: Target) -> None:
    message = frames.encode(frames.Open(1, frames.TCP, 0, target.port, target.host))
    asked, _ = frames.decode(message)
    assert isinstance(asked, frames.Open)
    assert (asked.host, asked.port) == (target.host, target.port)


def http(data: bytes) -> None:
    """A request that h11 parses is answered with an error or can be forwarded. So can the response."""
    request, _, response = data.partition(b"\0")
    client, server = HttpReader(h11.SERVER), HttpReader(h11.CLIENT)
    asked = _next(client, request)
    if not isinstance(asked, h11.Request):
        return
    http_message.authorized(asked, _LOGIN)
    try:
        to = http_message.destination(asked)
    except RequestError as error:
        error.reply.text.encode()
        return
    _can_be_asked_for(to.target)
    if asked.method == b"CONNECT":
        return
    passed_on = http_message.outgoing_request(asked, to)
    sent = server.http.send(passed_on)
    assert sent
    again = _next(HttpReader(h11.SERVER), sent)
    assert isinstance(again, h11.Request), "a server would understand another request"
    assert again.headers == passed_on.headers
    answer = _next(server, response)
    if isinstance(answer, h11.Response):
        assert client.http.send(http_message.outgoing_response(answer)) is not None
    elif isinstance(answer, h11.InformationalResponse):
        assert client.http.send(http_message.outgoing_information(answer)) is not None


def _next(reader: HttpReader, data: bytes) -> object:
    try:
        reader.receive(data)
        return reader.next_event()
    except h11.RemoteProtocolError:
        return None


def proxy(data: bytes) -> None:
    """The client of a proxy port and the servers it reaches send anything: every connection ends."""
    scene.run(_serve(data))


async def _serve(data: bytes) -> None:
    said, _, answers = data.partition(ANSWERS)
    world = _World()
    dialer = _Dialer(world, Choices(answers))
    username, password = ("alice", "secret") if said[:1] == b"L" else (None, None)
    listener = ProxyListener(ProxyPort("browser", _LOOPBACK, _NOBODY, username, password, 1), dialer)
    try:
        _, client = await world.connect(ByteStream, said[1:])
        serving = asyncio.create_task(listener.serve(client))
        await world.rest()
        world.end()
        await asyncio.wait([serving])
        client.reset()
        await asyncio.wait([client.lost])
        assert all(transport.is_closing() for transport in dialer.opened), "a connection was left open"
    finally:
        world.close()
    if not serving.cancelled() and not isinstance(serving.exception(), ConnectionError):
        serving.result()


class _World:
    """Sockets that send their bytes at once and end when all have been sent."""

    def __init__(self) -> None:
        self._peers: list[socket.socket] = []
        self._ending = False

    async def connect(self, protocol_factory: Callable[[], P], said: bytes) -> tuple[asyncio.Transport, P]:
        """A connection to a peer that sends `said`."""
        near, far = socket.socketpair()
        self._peers.append(far)
        far.setblocking(False)
        far.send(said)
        if self._ending:
            far.shutdown(socket.SHUT_WR)
        return await asyncio.get_running_loop().create_connection(protocol_factory, sock=near)

    async def rest(self) -> None:
        """Run the event loop until nothing happens without more bytes."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def end(self) -> None:
        self._ending = True
        for peer in self._peers:
            peer.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


class _Dialer:
    """Reaches servers that send some of the bytes, or fails to."""

    def __init__(self, world: _World, choices: Choices) -> None:
        self._world = world
        self._choices = choices
        self.opened: list[asyncio.Transport] = []

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        _can_be_asked_for(target)
        if self._choices.integer(7) == 1:
            raise StreamRefused(self._choices.pick(list(Refusal)), "no")
        transport, protocol = await self._world.connect(protocol_factory, self._choices.chunk(1000))
        self.opened.append(transport)
        return transport, protocol

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        raise StreamRefused(Refusal.UNSUPPORTED, "no UDP here")
