"""The listeners of a client: those of its configuration, and removed ones that still have clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

from toxproxy.address import Bind, UnixBind
from toxproxy.app.ways import Ways
from toxproxy.config.changes import Entry, same
from toxproxy.config.settings import Config, Forward
from toxproxy.control.snapshots import ListenerKind, ListenerSnapshot
from toxproxy.errors import ToxproxyError
from toxproxy.forward import ForwardListener
from toxproxy.inbound.listener import listening
from toxproxy.inbound.udp import UdpForwardListener
from toxproxy.socks import ProxyListener

Listener = ForwardListener | ProxyListener | UdpForwardListener
Place = tuple[str, ...]  # where an entry listens; a free port is another place for each name
Sockets = dict[Place, list[socket.socket]]


class Listeners:
    """Listens where a configuration says, and changes to another one without a gap.

    `ways` has the way of an entry. First `bind` what is new, then `switch`.
    """

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._current: list[tuple[Entry, Listener]] = []
        self._retired: list[tuple[Entry, Listener]] = []

    async def bind(self, config: Config) -> Sockets:
        """Sockets for the places that are not listened on yet. Raises `ToxproxyError`; then none is bound."""
        here = {_place(entry) for entry, _ in self._current}
        sockets: Sockets = {}
        try:
            for entry in config.listeners:
                if (place := _place(entry)) not in here:
                    sockets[place] = await self._bound(entry)
        except BaseException:
            close(sockets)
            raise
        return sockets

    async def _bound(self, entry: Entry) -> list[socket.socket]:
        try:
            return await listening(entry.name, entry.bind, _kind(entry))
        except ToxproxyError as error:
            for other, _ in self._current:
                if _port(other) == _port(entry) is not None:
                    hint = f"{other.name} still listens on {other.bind}: remove that first, and reload again"
                    raise ToxproxyError(f"{error} ({hint})") from error
            raise

    async def switch(self, config: Config, sockets: Sockets) -> None:
        """Listen as `config` says, with the `sockets` of `bind`.

        An entry that says what it said keeps its listener. Another one on the same place takes over its
        socket. Connections that are open go on.
        """
        before = {_place(entry): (entry, listener) for entry, listener in self._current}
        current: list[tuple[Entry, Listener]] = []
        for entry in config.listeners:
            place, compress = _place(entry), entry.name not in config.uncompressed
            old = before.pop(place, None)
            if old is not None and same(old[0], entry):
                listener = old[1]
                listener.change(config.limits, compress=compress)
            else:
                listener = self._make(entry, config, compress)
                await listener.start(sockets[place] if old is None else await old[1].release())
                if old is not None:
                    self._retired.append(old)
            current.append((entry, listener))
        for entry, listener in before.values():
            await listener.close()
            self._retired.append((entry, listener))
        self._current = current
        self._retired = [each for each in self._retired if each[1].connections]

    def _make(self, entry: Entry, config: Config, compress: bool) -> Listener:
        dialer, limits = self._ways.of(entry), config.limits
        if isinstance(entry, Forward) and entry.udp:
            return UdpForwardListener(entry, dialer, limits)
        if isinstance(entry, Forward):
            return ForwardListener(entry, dialer, limits, compress=compress)
        return ProxyListener(entry, dialer, limits, compress=compress, exits=self._ways.exits)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(listener.connections for _, listener in (*self._current, *self._retired))

    async def gone(self, server: bytes) -> None:
        """Wait until no client is left of the listeners that were removed and led to `server`."""
        for entry, listener in list(self._retired):
            if any(each.public_key == server for each in entry.servers):
                await listener.drain(None)

    async def close(self) -> None:
        """Stop listening. Open connections go on; see `drain`."""
        for _, listener in self._current:
            await listener.close()

    async def drain(self, grace: float = 0.0) -> None:
        """Wait `grace` seconds for the connections to end, then reset the others."""
        everyone = (*self._current, *self._retired)
        await asyncio.gather(*(listener.drain(grace) for _, listener in everyone))

    def addresses(self) -> Iterator[tuple[Entry, str]]:
        """Every address that is listened on, and for which entry."""
        return ((entry, address) for entry, listener in self._current for address in listener.addresses)

    def snapshots(self) -> Iterator[ListenerSnapshot]:
        """What is listened on, and how much it is used."""
        for entry, listener in self._current:
            for address in listener.addresses:
                yield ListenerSnapshot(
                    name=entry.name,
                    kind=ListenerKind.FORWARD if isinstance(entry, Forward) else ListenerKind.PROXY,
                    address=address,
                    target=str(entry.target) if isinstance(entry, Forward) else None,
                    peer_key=entry.server.public_key.hex().upper(),
                    connections=listener.connections,
                    accepted=listener.accepted,
                    refused=listener.refused,
                )


def close(sockets: Sockets) -> None:
    """Close sockets of `bind` that are not needed."""
    for each in sockets.values():
        for sock in each:
            sock.close()


def _place(entry: Entry) -> Place:
    bind, kind = entry.bind, _kind(entry).name
    if isinstance(bind, UnixBind):
        return str(bind), f"{bind.mode:o}"
    return (str(bind), kind) if bind.port else (str(bind), kind, type(entry).__name__, entry.name)


def _kind(entry: Entry) -> socket.SocketKind:
    return socket.SOCK_DGRAM if isinstance(entry, Forward) and entry.udp else socket.SOCK_STREAM


def _port(entry: Entry) -> tuple[int | str, socket.SocketKind] | None:
    """What only one listener can have; None: any free port."""
    where = entry.bind.port if isinstance(entry.bind, Bind) else entry.bind.path
    return (where, _kind(entry)) if where else None
