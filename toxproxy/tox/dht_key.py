"""A node's DHT key with its secret, and the packets by which libtoxcore learns a friend's DHT key.

libtoxcore makes a DHT key at each start. It has no call that tells the secret, and none that takes the DHT
key of a friend: that comes only from the friend (onion_client.c, `handle_dhtpk_announce`), mostly through
other nodes, which takes from 8 seconds to minutes. Both ends of a box have the same key (crypto_box of
NaCl). So whoever has a node's two secrets can write, to this node alone, what a friend would write. And it
can write to a friend directly what libtoxcore sends only through other nodes.

The secret is seen while libtoxcore draws it: libsodium lets a program set where random bytes come from.
They still come from where they came before.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from toxproxy.address import Address
from toxproxy.tox.library import ffi
from toxproxy.tox.relay_list import Relay

SIZE = 32  # bytes of a key

_MOST, _MOST_RELAYS = 4, 2  # nodes in a packet (MAX_SENT_NODES in DHT.h), as libtoxcore divides them
_NONCE, _MAC = 24, 16  # bytes
_REQUEST = 32  # NET_PACKET_CRYPTO in network.h: a DHT request
_DHT_KEY = 156  # CRYPTO_PACKET_DHTPK in DHT.h
_FAMILIES = {4: 2, 6: 10}  # TOX_AF_INET and TOX_AF_INET6 in network.h
_TCP = 0x80  # the same for a relay: TOX_TCP_INET and TOX_TCP_INET6


class DhtKey:
    """The DHT key of a node, with its secret. `close` wipes the secret."""

    def __init__(self, library: Any, public: bytes, secret: Any) -> None:
        self.public = public
        self._library = library
        self._secret = secret  # an array of C

    def close(self) -> None:
        """Wipe the secret."""
        wipe(self._secret)

    def packet(
        self,
        own: Any,
        friend: bytes,
        key: bytes | None,
        number: int,
        places: Sequence[tuple[Address, int]] = (),
        relays: Sequence[Relay] = (),
    ) -> bytes:
        """A packet that makes this node believe that `friend` has a node with the DHT `key`, at `places`,
        and is connected to `relays`.

        It must come to this node's UDP socket, from anywhere. `own` is this node's long-term secret key.
        libtoxcore ignores a `number` that is not greater than the last one that it had from the friend; 0 is
        the least. A `key` that differs from the one that libtoxcore has ends its connection with the friend.
        None: a key that nobody has. The first 2 relays count, and as many places as make 4 with them.
        """
        dht_secret = self._secret
        if key is None:
            dht_secret, made = ffi.new("uint8_t[]", SIZE), ffi.new("uint8_t[]", SIZE)
            self._library.crypto_box_keypair(made, dht_secret)
            key = bytes(made)
            other = self.public
        else:
            other = key
        inner = _said(number, key)
        relays = relays[:_MOST_RELAYS]
        for address, port, relay in relays:
            inner += _node(_TCP | _FAMILIES[address.version], address, port, relay)
        for address, port in places[: _MOST - len(relays)]:
            inner += _node(_FAMILIES[address.version], address, port, key)
        letter = friend + self._sealed(inner, friend, own)
        body = self._sealed(bytes([_DHT_KEY]) + letter, other, dht_secret)
        return bytes([_REQUEST]) + self.public + key + body

    def announcement(self, own: Any, own_public: bytes, friend: bytes, key: bytes, number: int) -> bytes:
        """A packet by which `friend` learns this node's DHT key: for its node, which has the DHT `key`.

        `own` and `own_public` are this node's long-term key. The `number` counts as in `packet`; what
        libtoxcore sends by itself has the time in seconds since 1970.
        """
        letter = own_public + self._sealed(_said(number, self.public), friend, own)
        body = self._sealed(bytes([_DHT_KEY]) + letter, key, self._secret)
        return bytes([_REQUEST]) + key + self.public + body

    def _sealed(self, text: bytes, public: bytes, secret: Any) -> bytes:
        """A nonce, and the box that has it."""
        nonce, out = os.urandom(_NONCE), ffi.new("uint8_t[]", _MAC + len(text))
        if self._library.crypto_box_easy(out, text, len(text), nonce, public, secret):
            raise ValueError("a key is not valid")
        return nonce + bytes(out)


class Witness:
    """Sees the random bytes of 32 that libsodium gives out in a block of `watching`."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._seen: list[Any] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Without the functions of libsodium it sees nothing. Raises what a signal raised in between."""
        library, failures = self._library, list[BaseException]()
        try:
            text: Any = ffi.string(library.randombytes_implementation_name())
            name = text.decode("ascii")
            source: Any = ffi.addressof(library, f"randombytes_{name}_implementation")
        except AttributeError:  # it is inside libtoxcore, and hidden, or somebody else has set it
            yield
            return
        fill = source.buf

        @ffi.callback("void(void *, size_t)", onerror=lambda _, error, __: failures.append(error))
        def draw(buffer: Any, size: int) -> None:
            fill(buffer, size)
            if size == SIZE:
                kept = ffi.new("uint8_t[]", SIZE)
                ffi.memmove(kept, buffer, SIZE)
                self._seen.append(kept)

        watched: Any = ffi.new("randombytes_implementation *", source[0])
        watched.buf = draw
        library.randombytes_set_implementation(watched)
        try:
            yield
            if failures:  # bytes may not have been drawn: what was made of them must not be used
                raise failures[0]
        except BaseException:
            self.forget()
            raise
        finally:
            library.randombytes_set_implementation(source)

    def key(self, public: bytes) -> DhtKey | None:
        """The key with this public half, if its secret was seen. Everything else is wiped."""
        found, half = None, ffi.new("uint8_t[]", SIZE)
        for at, secret in enumerate(self._seen):
            self._library.crypto_scalarmult_curve25519_base(half, secret)
            if bytes(half) == public:
                found = DhtKey(self._library, public, self._seen.pop(at))
                break
        self.forget()
        return found

    def forget(self) -> None:
        """Wipe what was seen."""
        for secret in self._seen:
            wipe(secret)
        self._seen.clear()


def _node(family: int, address: Address, port: int, key: bytes) -> bytes:
    return bytes([family]) + address.packed + port.to_bytes(2) + key


def _said(number: int, key: bytes) -> bytes:
    return bytes([_DHT_KEY]) + struct.pack("!Q", number) + key


def wipe(secret: Any) -> None:
    """Overwrite a key in memory."""
    ffi.memmove(secret, bytes(SIZE), SIZE)


def deliver(packet: bytes, port: int) -> None:
    """Send a packet to a UDP port of this machine. One that cannot be sent is lost, as others are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.sendto(packet, ("127.0.0.1", port))
