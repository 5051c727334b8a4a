"""Sessions over real ENet: streams as transports, dialled by a real exit to real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.link.rig import wire
from toxproxy.address import Bind, Target, ToxId
from toxproxy.config import ExitSettings, Forward
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.exits import Exit
from toxproxy.forward import ForwardListener
from toxproxy.link.base import LinkOwner
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.link.memory import DatagramPipe, Path
from toxproxy.mux import Limits
from toxproxy.mux.stream import ReceiveState
from toxproxy.relay import abort
from toxproxy.rules import Rules
from toxproxy.session import Session

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Ends:
    """The two sessions of a tunnel."""

    near: Session
    far: Session
    near_carrier: Carrier
    far_carrier: Carrier
    ended: list[tuple[str, str]] = field(default_factory=list)

    async def open(
        self, port: int, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, protocol = await self.near.dial(
            lambda: asyncio.StreamReaderProtocol(reader),
            Target("127.0.0.1", port),
            early=early,
            compress=compress,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def quiet(self) -> None:
        """Both sides have forgotten every stream."""
        async with asyncio.timeout(10):
            await self.near.idle()
            await self.far.idle()


@contextlib.asynccontextmanager
async def tunnel(path: Path | None = None, limits: Limits | None = None) -> AsyncIterator[Ends]:
    pipe = DatagramPipe(1, path)
    exit = Exit(ExitSettings(connect_timeout=5), Rules())
    sessions: dict[str, Session] = {}
    ended: list[tuple[str, str]] = []
    established = asyncio.Event()

    def owner(side: str) -> Callable[[EnetLink], LinkOwner]:
        def own(link: EnetLink) -> LinkOwner:
            sessions[side] = Session(
                link,
                client=side == "near",
                exit=exit if side == "far" else None,
                limits=limits,
                on_established=established.set if side == "near" else lambda: None,
                on_end=lambda reason: ended.append((side, reason)),
            )
            return sessions[side]

        return own

    near, far = wire(pipe, owner("near"), owner("far"))
    near.connect()
    try:
        async with asyncio.timeout(10):
            await established.wait()
        yield Ends(sessions["near"], sessions["far"], near, far, ended)
    finally:
        for session in sessions.values():
            session.close("done")
        await near.close()
        await far.close()
        pipe.close()
        exit.close()


@contextlib.asynccontextmanager
async def service(handler: Handler) -> AsyncIterator[int]:
    """A TCP server; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def whole_then_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the end of what it was sent."""
    writer.write(b"%d" % len(await reader.read(-1)))
    writer.close()


async def test_bytes_go_through_and_back() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        message = bytes(range(256)) * 4000
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
        writer.close()
        await ends.quiet()


async def test_the_answer_after_half_close_is_whole() -> None:
    async with tunnel() as ends, service(whole_then_length) as port:
        reader, writer = await ends.open(port)
        writer.write(bytes(300_000))
        writer.write_eof()
        assert await reader.read(-1) == b"300000"
        writer.close()
        await ends.quiet()


async def test_the_far_side_may_end_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        got = await reader.read(-1)
        received.set_result(got)
        writer.close()

    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with tunnel() as ends, service(greet) as port:
        reader, writer = await ends.open(port)
        assert await reader.read(-1) == b"hello"
        writer.write(b"and good bye")
        writer.write_eof()
        assert await received == b"and good bye"
        writer.close()
        await ends.quiet()


async def test_early_data_goes_out_before_the_answer() -> None:
    async with tunnel(Path(delay=0.05)) as ends, service(echo) as port:
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await ends.open(port, early=True)
        assert loop.time() - began < 0.05
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        writer.close()
        await ends.quiet()


async def test_a_refusal_says_exactly_why() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with tunnel() as ends:
            with pytest.raises(StreamRefused) as caught:
                await ends.open(port)
            assert caught.value.code is Refusal.CONNECTION_REFUSED
            await ends.quiet()


async def test_a_refusal_after_early_data_is_a_lost_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with tunnel() as ends:
            reader, writer = await ends.open(port, early=True)
            writer.write(bytes(10_000))
            with pytest.raises(StreamRefused) as caught:
                await reader.read()
            assert caught.value.code is Refusal.CONNECTION_REFUSED
            await ends.quiet()


async def test_a_reset_at_the_far_end_arrives_as_a_reset() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        assert isinstance(writer.transport, asyncio.Transport)
        abort(writer.transport)

    async with tunnel() as ends, service(slam) as port:
        reader, writer = await ends.open(port)
        writer.write(b"x")
        with pytest.raises(StreamReset) as caught:
            await reader.read()
        assert caught.value.code is ResetCode.CONNECTION_RESET
        await ends.quiet()


async def test_an_abort_at_the_near_end_resets_the_connection_behind() -> None:
    failed = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        except ConnectionResetError:
            failed.set()
        writer.close()

    async with tunnel() as ends, service(note) as port:
        _, writer = await ends.open(port)
        writer.write(b"x")
        await asyncio.sleep(0.05)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await failed.wait()
        await ends.quiet()


async def test_a_slow_reader_stops_its_own_writer_and_nobody_else() -> None:
    written = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async with tunnel() as ends, service(pour) as flood, service(echo) as port:
        _, stalled = await ends.open(flood)
        assert isinstance(stalled.transport, asyncio.Transport)
        stalled.transport.pause_reading()
        await asyncio.sleep(0.5)
        stopped_at = written
        reader, writer = await ends.open(port)
        for _ in range(20):
            writer.write(bytes(100_000))
            await reader.readexactly(100_000)
        assert written == stopped_at < 8 << 20  # one window and the kernel's buffers
        stalled.transport.abort()
        writer.close()
        await ends.quiet()


async def test_a_cancelled_dial_cancels_the_far_ends_dial() -> None:
    # A listener whose backlog is full leaves the third connection's SYN unanswered.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with tunnel() as ends:
            dial = asyncio.create_task(ends.open(port))
            await asyncio.sleep(0.3)
            assert ends.far.streams == 1
            dial.cancel()
            await asyncio.wait([dial])
            assert dial.cancelled()
            await ends.quiet()
            async with asyncio.timeout(1):
                while ends.far._serving:
                    await asyncio.sleep(0.01)
        for filler in fillers:
            filler.close()


async def test_closing_without_reading_lets_go_of_both_ends() -> None:
    gone = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionError:
            gone.set()

    async with tunnel() as ends, service(pour) as port:
        reader, writer = await ends.open(port)
        await reader.read(1000)
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()
            await writer.wait_closed()
        await ends.quiet()


async def test_closing_flushes_first() -> None:
    async with tunnel(Path(delay=0.02)) as ends:
        got: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(len(await reader.read(-1)))
            writer.close()

        async with service(count) as port:
            _, writer = await ends.open(port)
            writer.write(bytes(1_000_000))
            writer.close()
            assert await got == 1_000_000
            await ends.quiet()


async def test_many_streams_at_once_share_one_connection() -> None:
    async with tunnel() as ends, service(echo) as port:

        async def one(number: int) -> bool:
            reader, writer = await ends.open(port)
            message = b"%d," % number * 50
            writer.write(message)
            writer.write_eof()
            answer = await reader.read(-1)
            writer.close()
            return answer == message

        assert all(await asyncio.gather(*(one(n) for n in range(600))))
        await ends.quiet()
        assert ends.near_carrier.link is not None
        assert ends.near_carrier.link.stats.connections == 1


async def test_the_peers_limit_of_streams_is_kept() -> None:
    async with tunnel(limits=Limits(streams=2)) as ends, service(echo) as port:
        first, second = await ends.open(port), await ends.open(port)
        with pytest.raises(StreamRefused) as caught:
            await ends.open(port)
        assert caught.value.code is Refusal.TOO_MANY_STREAMS
        for _, writer in (first, second):
            writer.close()
        await ends.quiet()
        _, writer = await ends.open(port)
        writer.close()
        await ends.quiet()


async def test_ping_measures_the_round_trip() -> None:
    async with tunnel(Path(delay=0.03)) as ends:
        assert 0.06 <= await ends.near.ping() < 1.0


async def test_closing_tells_the_peer_why_and_resets_its_streams() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        ends.far.close("maintenance")
        with pytest.raises(StreamReset):
            await reader.read()
        assert ("near", "the peer said: maintenance (stopping)") in ends.ended
        assert not ends.near.established
        writer.close()


async def test_a_peer_that_breaks_the_protocol_loses_the_session_and_hears_why() -> None:
    async with tunnel() as ends:
        assert ends.near_carrier.link is not None
        ends.near_carrier.link.send(1, b"\xffnonsense")
        ends.near_carrier.link.flush()
        async with asyncio.timeout(5):
            while len(ends.ended) < 2:
                await asyncio.sleep(0.01)
        assert ("far", "unknown frame type 0xff") in ends.ended
        assert ("near", "the peer said: unknown frame type 0xff (protocol error)") in ends.ended


async def test_compressed_where_the_dialer_wants_it() -> None:
    text = b"".join(b"%d: the same as every other line, but for the number\n" % n for n in range(20_000))
    datagrams = {}
    async with tunnel() as ends, service(echo) as port:
        assert ends.near_carrier.link is not None
        assert ends.far_carrier.link is not None
        links = ends.near_carrier.link.stats, ends.far_carrier.link.stats
        for compress in (True, False):
            before = sum(stats.datagrams_sent for stats in links)
            reader, writer = await ends.open(port, compress=compress)
            writer.write(text)
            writer.write_eof()
            async with asyncio.timeout(10):
                assert await reader.read(-1) == text
            writer.close()
            await ends.quiet()
            datagrams[compress] = sum(stats.datagrams_sent for stats in links) - before
    assert datagrams[False] > 2 * len(text) / 1400
    assert datagrams[True] < datagrams[False] / 3


async def test_without_an_exit_every_request_is_refused() -> None:
    async with tunnel() as ends:
        ends.far._exit = None
        with pytest.raises(StreamRefused) as caught:
            await ends.open(80)
        assert caught.value.code is Refusal.UNSUPPORTED


async def test_a_link_that_is_lost_resets_its_streams() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        assert ends.near_carrier.link is not None
        ends.near_carrier.link.fail("the friend left the network")
        with pytest.raises(StreamReset) as caught:
            await reader.read()
        assert caught.value.code is ResetCode.LINK_LOST
        with pytest.raises(StreamRefused) as refused:
            await ends.open(port)
        assert refused.value.code is Refusal.OFFLINE
        writer.close()


async def test_a_link_lost_after_the_last_byte_came_does_not_cut_a_slow_clients_answer() -> None:
    size = 12 << 20
    prepared = asyncio.Event()  # the browser's buffer takes all of it

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        await prepared.wait()
        writer.write(bytes(size))
        writer.close()

    async with tunnel() as ends, service(answer) as port:
        forward = Forward("test", Bind("127.0.0.1", 0), Target("127.0.0.1", port), ToxId(bytes(38)), 1)
        listener = ForwardListener(forward, ends.near)
        await listener.start()
        host, _, local = listener.addresses[0].rpartition(":")
        ends.far._connection._scheduler.credit = lambda stream: None  # the last acknowledgement is lost
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.setblocking(False)
            await loop.sock_connect(client, (host, int(local)))
            client.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(5):
                while not ends.near.streams:
                    await asyncio.sleep(0.01)
            (stream,) = ends.near._connection.streams.values()
            browser = stream.data.get_protocol()._sink
            browser.set_write_buffer_limits(high=2 * size)
            prepared.set()
            async with asyncio.timeout(10):
                while stream.receiver.state is not ReceiveState.DONE:
                    await asyncio.sleep(0.01)
            assert browser.get_write_buffer_size() > 0
            got = 0
            ends.near_carrier.link.fail("the friend left the network")
            while data := await loop.sock_recv(client, 1 << 20):
                got += len(data)
            assert got == size
        await listener.close()


async def test_a_protocol_that_raises_loses_its_stream_only() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a bug")

    async with tunnel() as ends, service(echo) as port:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["message"])
        )
        transport, _ = await ends.near.dial(Broken, Target("127.0.0.1", port))
        transport.write(b"x")
        reader, writer = await ends.open(port)
        writer.write(b"fine")
        assert await reader.readexactly(4) == b"fine"
        assert complaints == ["error in a stream's protocol"]
        writer.close()
        await ends.quiet()
