"""A node's DHT key, with the secret that libtoxcore does not tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.ports import unused_port
from toxproxy.tox import library
from toxproxy.tox.dht_key import SIZE, Witness, deliver
from toxproxy.tox.library import ffi
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions
from toxproxy.tox.relay_list import Relay

OPTIONS = ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=40900, end_port=40999)


def made() -> bytes:
    """A new key of libsodium."""
    public, secret = ffi.new("uint8_t[]", SIZE), ffi.new("uint8_t[]", SIZE)
    library.load().crypto_box_keypair(public, secret)
    return bytes(public)


def test_the_secret_belongs_to_the_key_that_libtoxcore_tells() -> None:
    tox = Tox(OPTIONS)
    try:
        assert tox.dht is not None
        assert tox.dht.public.hex().upper() == tox.self_get_dht_id()
        half = ffi.new("uint8_t[]", SIZE)
        library.load().crypto_scalarmult_curve25519_base(half, tox.dht._secret)
        assert bytes(half) == tox.dht.public
    finally:
        tox.kill()


def test_the_secret_is_wiped_with_the_node() -> None:
    tox = Tox(OPTIONS)
    assert tox.dht is not None
    tox.kill()
    assert bytes(tox.dht._secret) == bytes(SIZE)


def test_what_is_drawn_outside_of_the_block_is_not_seen() -> None:
    lib = library.load()
    name = ffi.string(lib.randombytes_implementation_name())
    witness = Witness(lib)
    before = made()
    with witness.watching():
        inside = made()
    after = made()
    assert ffi.string(lib.randombytes_implementation_name()) == name
    assert len(witness._seen) == 1
    secret = witness._seen[0]
    assert witness.key(after) is None
    assert bytes(secret) == bytes(SIZE), "what is not the key is wiped"
    assert len({before, inside, after}) == 3


def test_nothing_stays_of_a_node_that_could_not_start() -> None:
    witness, secrets = Witness(library.load()), []

    def fail() -> None:
        made()
        secrets.extend(witness._seen)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), witness.watching():
        fail()
    assert [bytes(secret) for secret in secrets] == [bytes(SIZE)]
    assert not witness._seen
    with pytest.raises(ToxError):
        Tox(ToxOptions(savedata_data=b"no identity"))
    assert made() != made()


def test_random_bytes_that_were_not_drawn_are_not_used() -> None:
    """Ctrl-C may come while libsodium draws."""

    class Full(list[object]):
        def append(self, _: object) -> None:
            raise KeyboardInterrupt

    witness = Witness(library.load())
    witness._seen = Full()
    with pytest.raises(KeyboardInterrupt), witness.watching():
        made()


def test_a_library_without_the_functions_tells_no_secret() -> None:
    class Hidden:
        pass

    witness = Witness(Hidden())
    with witness.watching():
        public = made()
    assert witness.key(public) is None


def test_a_packet_of_the_layout_that_libtoxcore_reads() -> None:
    tox = Tox(OPTIONS)
    friend = tox.friend_add_norequest(made().hex())
    try:
        key = made()
        packet = tox.friend_dht_packet(friend, key, 1)
        assert packet is not None
        # DHT request: kind, receiver, sender, nonce, box of: kind, friend, nonce, box of: kind, number, key
        assert packet[:1] + packet[33:65] == b"\x20" + key
        assert packet[1:33].hex().upper() == tox.self_get_dht_id()
        assert len(packet) == 65 + 24 + 16 + 1 + 32 + 24 + 16 + 1 + 8 + 32
        with pytest.raises(ValueError, match="not valid"):
            tox.friend_dht_packet(friend, bytes(SIZE), 1)
    finally:
        tox.kill()


def test_a_friend_ends_its_connection_with_a_node_that_was_started_again() -> None:
    """At once, by one packet, though it takes the connection for good."""
    friend, before = Tox(OPTIONS), Tox(OPTIONS)
    again = None
    try:
        secret = ffi.new("uint8_t[]", SIZE)
        library.load().tox_self_get_secret_key(before._tox, secret)
        introduce(friend, before)
        introduce(before, friend)
        until(lambda: friend.friend_get_connection_status(0) == Tox.CONNECTION_UDP, friend, before)
        again = Tox(replace(OPTIONS, savedata_data=bytes(secret), savedata_type=Tox.SAVEDATA_TYPE_SECRET_KEY))
        introduce(again, friend)
        key = bytes.fromhex(friend.self_get_dht_id())
        packet = again.friend_dht_announcement(0, key, int(time.time()))
        assert packet is not None
        friend.iterate()
        assert friend.friend_get_connection_status(0) == Tox.CONNECTION_UDP
        deliver(packet, friend.self_get_udp_port())
        friend.iterate()
        assert friend.friend_get_connection_status(0) == Tox.CONNECTION_NONE
        until(lambda: friend.friend_get_connection_status(0) == Tox.CONNECTION_UDP, friend, again)
    finally:
        for tox in (friend, before, again):
            if tox is not None:
                tox.kill()


def test_a_friend_that_is_reached_through_a_relay_alone_is_found_there() -> None:
    """Neither end knows any other node, and the friend has no UDP."""
    port = unused_port()
    relay = Tox(replace(OPTIONS, tcp_port=port))
    friend, tox = Tox(replace(OPTIONS, udp_enabled=False)), Tox(OPTIONS)
    try:
        key = relay.self_get_dht_id()
        friend.add_tcp_relay("127.0.0.1", port, key)
        friend.friend_add_norequest(tox.self_get_public_key())
        tox.friend_add_norequest(friend.self_get_public_key())
        known = Relay(ip_address("127.0.0.1"), port, bytes.fromhex(key))
        node = bytes.fromhex(friend.self_get_dht_id())
        for number in (1, 2):  # libtoxcore 0.2.22 uses the relay the second time
            packet = tox.friend_dht_packet(0, node, number, (), (known,))
            assert packet is not None
            deliver(packet, tox.self_get_udp_port())
            tox.iterate()
        until(lambda: friend.friend_get_connection_status(0) == Tox.CONNECTION_TCP, relay, friend, tox)
    finally:
        for each in (relay, friend, tox):
            each.kill()


def introduce(tox: Tox, friend: Tox) -> None:
    """Make two nodes friends for the first, and tell it where the other one is."""
    tox.friend_add_norequest(friend.self_get_public_key())
    place = ip_address("127.0.0.1"), friend.self_get_udp_port()
    packet = tox.friend_dht_packet(0, bytes.fromhex(friend.self_get_dht_id()), 1, (place,))
    assert packet is not None
    deliver(packet, tox.self_get_udp_port())


def until(happened: Callable[[], bool], *running: Tox) -> None:
    """Run these nodes until it has."""
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end
        for tox in running:
            tox.iterate()
        time.sleep(0.02)
