"""A router that lies costs bounded time and memory, and is never believed beyond what is plausible."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.mapping.liar import HTTP_PORT, Liar, done, honest, page
from tests.mapping.test_igd import description, fault
from tests.mapping.test_packets import nat_pmp_mapped
from toxproxy.mapping import exchange
from toxproxy.mapping.grant import Failure, MappingError
from toxproxy.mapping.router import Router
from toxproxy.mapping.ways import NatPmp, Pcp, Upnp, Way

PORT = 33445
_SECONDS = 12.0  # that one protocol may take at most
_BYTES = 2_000_000  # of memory, at most


@pytest.fixture
async def liar(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Liar]:
    monkeypatch.setattr(exchange, "PAUSES", (0.1, 0.1, 0.2))  # else silence takes 1.75 seconds
    monkeypatch.setattr(exchange, "_HTTP_SECONDS", 1.0)  # else 4
    async with Liar().running() as liar:
        liar.answers = honest()
        yield liar


async def failure(way: Way) -> Failure:
    """Why there is no mapping. Fails if that takes too much time or memory."""
    tracemalloc.start()
    try:
        async with asyncio.timeout(_SECONDS):
            with pytest.raises(MappingError) as raised:
                await way.map(PORT, 600)
        assert tracemalloc.get_traced_memory()[1] < _BYTES
    finally:
        tracemalloc.stop()
    return raised.value.failure


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def noise(size: int) -> bytes:
    """Random bytes that are no answer, since the answer's bit (0x80 of the second byte) is not set."""
    return (b"\2\1" + os.urandom(size))[:size]


def granted(request: bytes) -> bytes:
    """The honest answer of PCP."""
    external = bytes(10) + b"\xff\xff\x08\x08\x04\x04"
    return b"\2\x81\0\0" + (600).to_bytes(4, "big") + bytes(16) + request[24:44] + external


# Datagrams


async def test_the_liar_can_be_honest(liar: Liar) -> None:
    liar.pcp = lambda data: [granted(data)]
    grant = await Pcp(liar.gateway, PORT).map(PORT, 600)
    assert (str(grant.address), grant.port) == ("8.8.4.4", PORT)
    grant = await Upnp(liar.gateway, PORT).map(PORT, 600)
    assert (str(grant.address), grant.port) == ("8.8.4.4", PORT)


@pytest.mark.parametrize(
    "answers",
    [
        lambda data: [],
        lambda data: [noise(size) for size in (1, 12, 16, 60, 1400, 60_000)],
        lambda data: [b"\2\x81" + bytes(60_000)] * 20,
        lambda data: [flipped(granted(data), 24)],  # the nonce
        lambda data: [flipped(granted(data), 36)],  # the protocol
        lambda data: [flipped(granted(data), 40)],  # the internal port
        lambda data: [granted(data)[:end] for end in range(60)],
        lambda data: [data],
    ],
    ids=["silent", "garbage", "huge", "nonce", "protocol", "port", "cut", "echo"],
)
async def test_what_is_no_answer_of_pcp_or_nat_pmp_is_silence(liar: Liar, answers: object) -> None:
    liar.pcp = answers  # type: ignore[assignment]
    assert await failure(Pcp(liar.gateway, PORT)) is Failure.SILENT
    assert await failure(NatPmp(liar.gateway, PORT)) is Failure.SILENT


async def test_another_version_of_pcp_is_not_supported(liar: Liar) -> None:
    liar.pcp = lambda data: [bytes([9]) + granted(data)[1:]]
    assert await failure(Pcp(liar.gateway, PORT)) is Failure.UNSUPPORTED


async def test_an_answer_of_another_host_is_not_read(liar: Liar) -> None:
    """Neither of the right port at another address, nor of another port at the right one."""
    loop = asyncio.get_running_loop()
    for host, port in ((liar.elsewhere, 5351), (str(liar.gateway.address), 5352)):
        other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(host, port))

        def answer(data: bytes, other: asyncio.DatagramTransport = other) -> list[bytes]:
            other.sendto(granted(data), liar.asker)
            return []

        liar.pcp = answer
        assert await failure(Pcp(liar.gateway, PORT)) is Failure.SILENT
        other.close()


async def test_nat_pmp_without_an_address_is_no_mapping(liar: Liar) -> None:
    liar.pcp = lambda data: [nat_pmp_mapped()] if len(data) > 2 else []
    assert await failure(NatPmp(liar.gateway, PORT)) is Failure.SILENT
    liar.pcp = lambda data: [nat_pmp_mapped() if len(data) > 2 else bytes([0, 0x80]) + bytes(10)]
    assert await failure(NatPmp(liar.gateway, PORT)) is Failure.NONSENSE


# The search


async def test_a_device_elsewhere_is_not_asked(liar: Liar) -> None:
    liar.ssdp = lambda data: [
        liar.found(f"http://{liar.elsewhere}:{HTTP_PORT}/root.xml"),
    ]
    assert await failure(Upnp(liar.gateway, PORT)) is Failure.NONSENSE
    assert liar.strayed == 0


async def test_the_answer_of_another_host_to_a_search_is_not_read(liar: Liar) -> None:
    loop = asyncio.get_running_loop()
    other, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(liar.elsewhere, 1900)
    )

    def answer(data: bytes) -> list[bytes]:
        other.sendto(liar.found(), liar.asker)
        return []

    liar.ssdp = answer
    assert await failure(Upnp(liar.gateway, PORT)) is Failure.SILENT
    assert liar.asked == []
    other.close()


# Pages


async def endless(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b"<a>" * 20_000


async def endless_head(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X: " + b"y" * 20_000 + b"\r\n"


async def promised(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    while True:
        yield b"x" * 60_000


async def chunked(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\nx\r\n" * 10_000


async def slow(path: str, body: bytes) -> AsyncIterator[bytes]:
    for byte in page(description("/control")):
        yield bytes([byte])
        await asyncio.sleep(0.5)


async def hints(path: str, body: bytes) -> AsyncIterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 500


async def garbage(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield random.randbytes(20_000)


async def closed(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield b""


async def bomb(path: str, body: bytes) -> AsyncIterator[bytes]:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(9))
    yield page(f"<!DOCTYPE r [{entities}]><r>&e8;</r>".encode())


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (endless, Failure.NONSENSE),
        (endless_head, Failure.NONSENSE),
        (promised, Failure.NONSENSE),
        (chunked, Failure.NONSENSE),
        (hints, Failure.NONSENSE),
        (slow, Failure.SILENT),
        (garbage, Failure.NONSENSE),
        (closed, Failure.NONSENSE),
        (bomb, Failure.NONSENSE),
    ],
)
async def test_a_page_that_never_ends_or_makes_no_sense(liar: Liar, pages: object, expected: Failure) -> None:
    liar.pages = pages  # type: ignore[assignment]
    assert await failure(Upnp(liar.gateway, PORT)) is expected


async def test_a_redirect_is_not_followed(liar: Liar) -> None:
    async def redirected(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield page(b"", "302 Found", f"Location: http://{liar.elsewhere}:{HTTP_PORT}/\r\n")

    liar.pages = redirected
    assert await failure(Upnp(liar.gateway, PORT)) is Failure.REFUSED
    assert (liar.strayed, liar.asked) == (0, ["/root.xml"])


# The device


async def test_a_port_that_is_always_taken_is_asked_for_a_few_times(liar: Liar) -> None:
    liar.answers["AddPortMapping"] = [fault("718")]
    assert await failure(Upnp(liar.gateway, PORT)) is Failure.TAKEN
    assert liar.asked.count("AddPortMapping") == 4


async def test_a_mapping_of_another_is_not_replaced_even_if_the_router_would(liar: Liar) -> None:
    neighbour = {"NewInternalClient": "192.168.1.9", "NewInternalPort": str(PORT)}
    liar.answers["GetSpecificPortMappingEntry"] = [
        done("GetSpecificPortMappingEntry", **neighbour),
        fault("714"),
        done("GetSpecificPortMappingEntry", **neighbour),
    ]
    way = Upnp(liar.gateway, PORT)
    assert (await way.map(PORT, 600)).port != PORT
    assert liar.asked.count("AddPortMapping") == 1
    # Meanwhile it became another's: it is not given back either.
    with pytest.raises(MappingError):
        await way.release()
    assert "DeletePortMapping" not in liar.asked


async def test_a_router_that_knows_only_permanent_mappings_gets_one_and_it_is_given_back(liar: Liar) -> None:
    liar.answers["AddPortMapping"] = [fault("725"), done("AddPortMapping")]
    way = Upnp(liar.gateway, PORT)
    assert (await way.map(PORT, 600)).lifetime == 600
    await way.release()
    assert liar.asked[-2:] == ["GetSpecificPortMappingEntry", "DeletePortMapping"]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "239.1.1.1", "", "<b/>", "8.8.8.8.8"])
async def test_a_device_without_an_external_address_maps_nothing(liar: Liar, address: str) -> None:
    liar.answers = honest(address)
    assert await failure(Upnp(liar.gateway, PORT)) is Failure.NONSENSE
    assert "AddPortMapping" not in liar.asked


# The router as a whole


async def test_what_may_have_been_granted_is_given_back_also_if_the_asking_was_cancelled(liar: Liar) -> None:
    heard: list[bytes] = []
    liar.pcp = lambda data: heard.append(data) or []  # type: ignore[func-returns-value]
    router = Router(liar.gateway, PORT, 600)
    asking = asyncio.create_task(router.map(PORT))
    while not heard:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(4):
        await router.give_back()
    assert heard[-1][4:8] == bytes(4)  # a lifetime of 0
    assert heard[-1][24:36] == heard[0][24:36]  # the same nonce
