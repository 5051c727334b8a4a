"""The limits of a session, and how it and its streams end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.simulation import Path
from tests.tunnel.ends import echo, service, tunnel
from tests.tunnel.lines import Side, hello, packed
from toxproxy.address import Bind, Target, ToxId
from toxproxy.config.settings import Forward
from toxproxy.errors import CloseCode, Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.forward import ForwardListener
from toxproxy.link.base import LinkEnd
from toxproxy.mux.limits import Limits
from toxproxy.recovery.packet import close
from toxproxy.tunnel.events import Change, Loss, PeerBroke, PeerClosed, SessionEvent
from toxproxy.tunnel.host import Host


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


async def test_the_round_trip_is_known_at_once() -> None:
    async with tunnel(Path(delay=0.03)) as ends:
        for _ in range(2):
            trip = ends.near.recovery.trip
            assert trip.known
            assert 0.06 <= trip.smoothed < 1.0
            ends.near_end.lose()
            ends.near_end.reach()
            await ends.resumed()


async def test_closing_tells_the_peer_why_and_resets_its_streams() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        ends.far.close("maintenance")
        with pytest.raises(StreamReset):
            await reader.read()
        assert ("near", PeerClosed(CloseCode.STOPPING, "maintenance")) in ends.ended
        assert ends.near_end.session is None
        writer.close()


async def test_a_peer_that_breaks_the_protocol_loses_the_session_and_hears_why() -> None:
    async with tunnel() as ends:
        assert ends.near_end.carrier.link is not None
        ends.near_end.carrier.link.send(packed(1000) + b"\xffnonsense")
        ends.near_end.carrier.link.flush()
        async with asyncio.timeout(5):
            while len(ends.ended) < 2:
                await asyncio.sleep(0.01)
        assert ("far", PeerBroke("unknown frame type 0xff")) in ends.ended
        assert ("near", PeerClosed(CloseCode.PROTOCOL_ERROR, "unknown frame type 0xff")) in ends.ended


async def test_a_stream_is_compressed_if_its_dialer_wants_it() -> None:
    text = b"".join(b"%d: the same as every other line, but for the number\n" % n for n in range(20_000))
    packets = {}
    async with tunnel() as ends, service(echo) as port:

        def sent() -> int:
            return sum(session.recovery.flight.next_number for session in (ends.near, ends.far))

        for compress in (True, False):
            before = sent()
            reader, writer = await ends.open(port, compress=compress)
            writer.write(text)
            writer.write_eof()
            async with asyncio.timeout(10):
                assert await reader.read(-1) == text
            writer.close()
            await ends.quiet()
            packets[compress] = sent() - before
    assert packets[False] > 2 * len(text) / 1400
    assert packets[True] < packets[False] / 3


async def test_without_an_exit_every_request_is_refused() -> None:
    async with tunnel() as ends:
        ends.far._host = Host()
        with pytest.raises(StreamRefused) as caught:
            await ends.open(80)
        assert caught.value.code is Refusal.UNSUPPORTED


@pytest.mark.parametrize("last", [close(CloseCode.STOPPING, "bye"), packed(2) + b"\xff"])
async def test_a_session_that_begins_and_ends_in_one_batch_only_ends(last: bytes) -> None:
    client = Side()
    client.hear(packed(1, hello(5)), last)
    assert len(client.ended) == 1
    assert client.changes == [SessionEvent(Change.ENDED, client.ended[0])]


async def test_a_session_interrupted_for_too_long_resets_its_streams() -> None:
    async with tunnel(grace=0.05) as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        ends.near_end.lose()
        with pytest.raises(StreamReset) as caught:
            await reader.read()
        assert caught.value.code is ResetCode.LINK_LOST
        assert ("near", SessionEvent(Change.INTERRUPTED, LinkEnd.UNREACHABLE)) in ends.changes
        assert ends.ended == [("near", Loss.EXPIRED)]
        assert ends.near_end.session is None
        writer.close()


async def test_a_session_lost_after_the_last_byte_does_not_cut_the_answer_to_a_slow_client() -> None:
    size = 12 << 20
    prepared = asyncio.Event()  # the client's buffer holds all of it

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
        ends.far.multiplexer.scheduler.credit = lambda stream: None  # the last acknowledgement is lost
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.setblocking(False)
            await loop.sock_connect(client, (host, int(local)))
            client.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(5):
                while not ends.near.streams:
                    await asyncio.sleep(0.01)
            (stream,) = ends.near.multiplexer.streams.values()
            browser = stream.data.get_protocol()._sink
            browser.set_write_buffer_limits(high=2 * size)
            prepared.set()
            async with asyncio.timeout(10):
                while not stream.receiver.done:
                    await asyncio.sleep(0.01)
            assert browser.get_write_buffer_size() > 0
            got = 0
            ends.near.close("the end")
            while data := await loop.sock_recv(client, 1 << 20):
                got += len(data)
            assert got == size
        await listener.close()


async def test_a_target_that_is_still_being_written_to_is_waited_for_and_then_reset() -> None:
    """The stream has ended in the session, but not all its bytes have been written to the target."""
    taken: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def take_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await stop.wait()
        try:
            taken.set_result(len(await reader.read(-1)))
        except ConnectionResetError:
            taken.set_result(None)
        writer.close()

    async with tunnel() as ends, service(take_late) as port:
        reader, writer = await ends.open(port)
        assert await reader.read() == b""
        (half,) = ends.far_end._host._halves._open
        half.transport.set_write_buffer_limits(1 << 30)  # it takes all bytes of the stream
        writer.write(bytes(16 << 20))  # more than the buffers of a TCP connection hold
        writer.write_eof()
        writer.close()
        async with asyncio.timeout(10):
            await ends.quiet()
        assert ends.far_end.connections == 1
        await ends.far_end.close("stopping")
        stop.set()
        async with asyncio.timeout(10):
            assert await taken is None


async def test_the_session_is_idle_after_its_last_stream_ended_in_any_way() -> None:
    async with tunnel() as ends, service(echo) as port:
        for end_it in (
            lambda stream: stream.abort(),
            lambda stream: stream.close(),
            lambda stream: ends.near.close("the session ends"),
        ):
            transport, _ = await ends.near.dial(asyncio.Protocol, Target("127.0.0.1", port))
            session = ends.near
            idle = [asyncio.create_task(session.idle()), asyncio.create_task(ends.far.idle())]
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in idle)
            end_it(transport)
            async with asyncio.timeout(5):
                await asyncio.gather(*idle)
            assert session._trimming.running
            session._trimming.stop()


async def test_a_refusal_leaves_the_server_idle() -> None:
    async with tunnel() as ends, service(echo) as port:
        released = asyncio.Event()

        class Slow:
            async def dial(self, *args: object, **named: object) -> None:
                await released.wait()
                raise StreamRefused(Refusal.FAILED, "no")

        ends.far._host._exit = Slow()
        dial = asyncio.create_task(ends.open(port))
        async with asyncio.timeout(5):
            while not ends.far.streams:
                await asyncio.sleep(0.01)
        idle = asyncio.create_task(ends.far.idle())
        await asyncio.sleep(0.01)
        assert not idle.done()
        released.set()
        async with asyncio.timeout(5):
            await idle
        with pytest.raises(StreamRefused):
            await dial
        assert ends.far._trimming.running


async def test_a_request_that_is_ended_at_the_server_is_not_served_any_more() -> None:
    async with tunnel() as ends, service(echo) as port:

        class Waiting:
            async def dial(self, *args: object, **named: object) -> None:
                await asyncio.Event().wait()

        ends.far._host._exit = Waiting()
        dial = asyncio.create_task(ends.open(port))
        async with asyncio.timeout(5):
            while not ends.far.streams:
                await asyncio.sleep(0.01)
            [far] = ends.far.streams
            far.end(ResetCode.CONNECTION_RESET)
            await asyncio.wait([far.serving])
        assert far.serving.cancelled()
        with pytest.raises(StreamRefused):
            await dial


@pytest.mark.parametrize("callback", ["data_received", "pause_writing", "resume_writing"])
async def test_a_protocol_that_raises_loses_only_its_own_stream(callback: str) -> None:
    class Broken(asyncio.Protocol):
        pass

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    setattr(Broken, callback, fail)
    async with tunnel() as ends, service(echo) as port:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["message"])
        )
        transport, _ = await ends.near.dial(Broken, Target("127.0.0.1", port))
        transport.write(bytes(1 << 20))
        reader, writer = await ends.open(port)
        writer.write(b"fine")
        assert await reader.readexactly(4) == b"fine"
        async with asyncio.timeout(5):
            while not complaints:
                await asyncio.sleep(0.01)
        assert complaints == ["error in a stream's protocol"]
        writer.close()
        await ends.quiet()
