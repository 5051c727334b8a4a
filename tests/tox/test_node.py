"""Two connected nodes: friend requests, connection states, packets."""

from __future__ import annotations

import asyncio
from typing import Any

import cffi
import pytest

from tests.tox.pair import Catcher, Pair
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tox.pytox import ToxError

pytestmark = pytest.mark.asyncio(loop_scope="session")

ID = 200


async def test_the_server_gets_the_key_and_the_message_of_a_friend_request(relayed: Pair) -> None:
    assert set(relayed.server_diary.requests) == {(relayed.client.public_key, b"toxproxy")}


async def test_a_client_that_was_not_let_in_can_ask_again(direct: Pair) -> None:
    words = [words for _, words in direct.server_diary.requests]
    assert list(dict.fromkeys(words)) == [b"wrong", b"let me in"]


async def test_both_ends_report_a_direct_connection(direct: Pair) -> None:
    assert direct.server.friend_connection(direct.client_number) is ConnectionStatus.UDP
    assert direct.client.friend_connection(direct.server_number) is ConnectionStatus.UDP
    assert direct.server_diary.friends == [(direct.client_number, ConnectionStatus.UDP)]


async def test_both_ends_report_a_connection_through_a_relay(relayed: Pair) -> None:
    assert relayed.server.udp_port is None
    assert relayed.server.friend_connection(relayed.client_number) is ConnectionStatus.TCP
    assert relayed.client.friend_connection(relayed.server_number) is ConnectionStatus.TCP


async def test_packets_of_every_size_arrive_whole_and_in_order(direct: Pair) -> None:
    catcher = Catcher()
    direct.server.set_sink(direct.client_number, catcher)
    sent = [bytes([ID]) + bytes([size % 251]) * size for size in (0, 1, 100, 1199, 1371, 1372)]
    for packet in sent:
        assert direct.client.send_lossy(direct.server_number, packet)
    assert await catcher.until(len(sent)) == sent
    direct.server.set_sink(direct.client_number, None)


async def test_packets_pass_in_both_directions_at_once(direct: Pair) -> None:
    at_server, at_client = Catcher(), Catcher()
    direct.server.set_sink(direct.client_number, at_server)
    direct.client.set_sink(direct.server_number, at_client)
    for i in range(50):
        assert direct.client.send_lossy(direct.server_number, bytes([ID, i]))
        assert direct.server.send_lossy(direct.client_number, bytes([ID, 100 + i]))
    assert [packet[1] for packet in await at_server.until(50)] == list(range(50))
    assert [packet[1] for packet in await at_client.until(50)] == list(range(100, 150))
    direct.server.set_sink(direct.client_number, None)
    direct.client.set_sink(direct.server_number, None)


async def test_a_flood_arrives_whole_and_afterwards_the_socket_is_watched_again(direct: Pair) -> None:
    catcher = Catcher()
    direct.server.set_sink(direct.client_number, catcher)
    sent, rested = [], False
    for number in range(400):
        sent.append(bytes([ID]) + number.to_bytes(2) + bytes(1000))
        assert direct.client.send_lossy(direct.server_number, sent[-1])
        if number % 5 == 4:
            await asyncio.sleep(0)
            rested = rested or direct.server._rest is not None
    assert await catcher.until(len(sent)) == sent
    assert rested
    async with asyncio.timeout(5):
        while direct.server._rest is not None:
            await asyncio.sleep(0.001)
    direct.client.send_lossy(direct.server_number, bytes([ID]))
    await catcher.until(len(sent) + 1)
    direct.server.set_sink(direct.client_number, None)


async def test_a_sender_takes_a_pointer_and_a_length(direct: Pair) -> None:
    catcher, ffi = Catcher(), cffi.FFI()
    direct.server.set_sink(direct.client_number, catcher)
    memory = ffi.new("uint8_t[]", bytes([ID]) + b"from here and not to there")
    send = direct.client.lossy_sender(direct.server_number)
    assert send(memory, 10)
    assert await catcher.until(1) == [bytes([ID]) + b"from here"]
    with pytest.raises(ToxError, match="TOO_LONG"):
        send(memory, 5000)
    absent = direct.client.lossy_sender(99)
    with pytest.raises(ToxError, match="FRIEND_NOT_FOUND"):
        absent(memory, 10)
    direct.server.set_sink(direct.client_number, None)


async def test_packets_pass_through_the_relay(relayed: Pair) -> None:
    catcher = Catcher()
    relayed.server.set_sink(relayed.client_number, catcher)
    sent = [bytes([ID, i]) * 600 for i in range(20)]
    for packet in sent:
        assert relayed.client.send_lossy(relayed.server_number, packet)
    assert await catcher.until(len(sent)) == sent


async def test_a_batch_ends_after_its_packets_and_never_without_any(direct: Pair) -> None:
    catcher = Catcher()
    direct.server.set_sink(direct.client_number, catcher)
    for i in range(30):
        direct.client.send_lossy(direct.server_number, bytes([ID, i]))
    await catcher.until(30)
    assert catcher.batches[-1] == 30
    assert catcher.batches == sorted(set(catcher.batches))
    assert catcher.batches[0] > 0
    direct.server.set_sink(direct.client_number, None)


async def test_a_sink_may_send_while_it_receives(direct: Pair) -> None:
    class Echo(Catcher):
        def packet_received(self, packet: Any) -> None:
            assert direct.server.send_lossy(direct.client_number, packet[:] + b"!")

    catcher = Catcher()
    direct.server.set_sink(direct.client_number, Echo())
    direct.client.set_sink(direct.server_number, catcher)
    direct.client.send_lossy(direct.server_number, bytes([ID]) + b"hello")
    assert await catcher.until(1) == [bytes([ID]) + b"hello!"]
    direct.server.set_sink(direct.client_number, None)
    direct.client.set_sink(direct.server_number, None)


async def test_an_error_in_a_sink_is_reported_and_the_node_goes_on(direct: Pair) -> None:
    class Picky(Catcher):
        def packet_received(self, packet: Any) -> None:
            super().packet_received(packet)
            if packet[1:] == b"bad":
                raise ValueError("not this one")

    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    picky = Picky()
    direct.server.set_sink(direct.client_number, picky)
    try:
        for word in (b"one", b"bad", b"two"):
            direct.client.send_lossy(direct.server_number, bytes([ID]) + word)
        assert [packet[1:] for packet in await picky.until(3)] == [b"one", b"bad", b"two"]
    finally:
        loop.set_exception_handler(None)
        direct.server.set_sink(direct.client_number, None)
    assert [str(context["exception"]) for context in reported] == ["not this one"]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"", "TOX_ERR_FRIEND_CUSTOM_PACKET_EMPTY"),
        (bytes([ID]) * 1374, "TOX_ERR_FRIEND_CUSTOM_PACKET_TOO_LONG"),
        (b"\x01", "TOX_ERR_FRIEND_CUSTOM_PACKET_INVALID"),
    ],
)
async def test_a_packet_that_tox_cannot_carry_is_an_error(direct: Pair, packet: bytes, code: str) -> None:
    with pytest.raises(ToxError) as caught:
        direct.client.send_lossy(direct.server_number, packet)
    assert caught.value.code == code


async def test_a_packet_for_an_unknown_friend_is_an_error(direct: Pair) -> None:
    with pytest.raises(ToxError, match="FRIEND_NOT_FOUND"):
        direct.client.send_lossy(99, bytes([ID]))


async def test_a_packet_for_an_absent_friend_is_not_sent(direct: Pair) -> None:
    absent = direct.client.admit_friend(bytes(range(32)))
    assert direct.client.friend_connection(absent) is ConnectionStatus.NONE
    assert not direct.client.send_lossy(absent, bytes([ID]))
    direct.client.remove_friend(bytes(range(32)))
