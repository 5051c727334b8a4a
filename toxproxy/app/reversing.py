"""What servers listen on for a client: the lines of [reverse], and what its program asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Self

from toxproxy.address import Bind, parse_bind_host, plain_address
from toxproxy.audit.record import Record
from toxproxy.config.changes import Entry, same
from toxproxy.config.reverse import rules_of, udp
from toxproxy.config.settings import Config, Forward
from toxproxy.control.snapshots import ListenerKind, ListenerSnapshot, ListenerState
from toxproxy.reverse.asking import Asking, Phase
from toxproxy.reverse.doors import CallbackDoor, Door, ProxyDoor, Surroundings, TargetDoor
from toxproxy.reverse.listening import Listening
from toxproxy.reverse.outlet import Outlet
from toxproxy.reverse.request import Request
from toxproxy.rules import Rule
from toxproxy.tunnel.friend import Friend

Callback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

_STATES = {
    Phase.WAITING: ListenerState.WAITING,
    Phase.ASKED: ListenerState.ASKED,
    Phase.LISTENING: ListenerState.LISTENING,
    Phase.REFUSED: ListenerState.REFUSED,
}


class Running:
    """One request and its task. `entry` is the line that it is of; None: the program's own."""

    def __init__(self, asking: Asking, entry: Entry | None, permit: tuple[Rule, ...] | None = None) -> None:
        self.asking = asking
        self.entry = entry
        self.permit = permit
        self._task = asyncio.get_running_loop().create_task(asking.run(), name=f"reverse {asking.name}")

    async def stop(self) -> None:
        """Have the server listen no more. Connections go on."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    def says(self, entry: Entry, config: Config) -> bool:
        """Whether this is what a line of the configuration says."""
        compress = entry.name not in config.uncompressed
        return (
            self.entry is not None
            and same(self.entry, entry)
            and self.asking.compress is compress
            and (isinstance(entry, Forward) or self.permit == config.reverse.permit)
        )


class Reversing:
    """Keeps a request for each line of [reverse]. `friends` are the servers by key.

    `name` is what a server is called, `write` takes the records of what leaves here.
    """

    def __init__(
        self,
        config: Config,
        friends: Mapping[bytes, Friend],
        *,
        name: Callable[[bytes], str | None],
        write: Callable[[Record], None],
    ) -> None:
        self._config = config
        self._friends = friends
        self._name = name
        self._write = write
        self._outlets: dict[bytes, Outlet] = {}
        self._running: list[Running] = []

    def outlet(self, server: bytes) -> Outlet:
        """What a server reaches at this client, for its `Friend`."""
        outlet = self._outlets[server] = Outlet()
        return outlet

    async def switch(self, config: Config) -> None:
        """Ask for what `config` says. A line that says what it said is left alone."""
        self._config = config
        wanted = list(config.reverse.entries)
        for each in [each for each in self._running if each.entry is not None]:
            if (kept := next((line for line in wanted if each.says(line, config)), None)) is not None:
                wanted.remove(kept)
                each.asking.door.change(config.limits)
            else:
                self._running.remove(each)
                await each.stop()
        for line in wanted:
            server, request = line.server.public_key, Request(line.bind, udp(line))
            compress = line.name not in config.uncompressed
            asking = self._ask(line.name, server, request, self._door(line), compress=compress)
            self._running.append(Running(asking, line, config.reverse.permit))

    def _ask(
        self, name: str, server: bytes, request: Request, door: Door, *, compress: bool = True
    ) -> Asking:
        return Asking(name, self._friends[server], self._outlets[server], request, door, compress=compress)

    def _door(self, line: Entry) -> Door:
        around = Surroundings(line.server.public_key, self._name, self._write, lambda: self._config.limits)
        rules = rules_of(line, self._config.reverse.permit)
        if isinstance(line, Forward):
            return TargetDoor(around, line.target, rules)
        return ProxyDoor(around, line, rules)

    async def start_server(self, callback: Callback, host: str, port: int, friend: Friend) -> ReverseServer:
        """See `Client.start_server`."""
        bind = Bind(parse_bind_host(host), port)
        if bind.host:
            plain_address(bind.host)
        await friend.reached()
        running = Running(self._ask("start_server", friend.key, Request(bind), CallbackDoor(callback)), None)
        self._running.append(running)
        server = ReverseServer(running, self._running)
        try:
            await running.asking.answered.wait()
            if (refusal := running.asking.refusal) is not None:
                raise refusal
        except BaseException:
            await server.wait_closed()
            raise
        return server

    async def gone(self, server: bytes) -> None:
        """A server is being left: ask it for nothing."""
        for each in [each for each in self._running if each.asking.friend.key == server]:
            self._running.remove(each)
            await each.stop()

    async def close(self) -> None:
        """Have no server listen any more. Connections go on."""
        running, self._running = self._running, []
        await asyncio.gather(*(each.stop() for each in running))

    def snapshots(self) -> Iterator[ListenerSnapshot]:
        """What servers listen on, or why they do not, and how much it is used."""
        for each in self._running:
            asking, door, line = each.asking, each.asking.door, each.entry
            refusal = asking.refusal
            for address in asking.addresses or (str(asking.request),):
                yield ListenerSnapshot(
                    name=asking.name,
                    kind=ListenerKind.REVERSE,
                    address=address,
                    target=str(line.target) if isinstance(line, Forward) else None,
                    peer_key=asking.friend.key.hex().upper(),
                    connections=door.connections,
                    accepted=door.accepted,
                    refused=door.refused,
                    state=_STATES[asking.phase],
                    refusal=None if refusal is None else refusal.code.name.lower(),
                    detail=None if refusal is None else refusal.text,
                )


def for_client(key: bytes, name: str, listening: Listening) -> Iterator[ListenerSnapshot]:
    """What a server listens on for one client."""
    for each in listening.open:
        for address in each.listener.addresses:
            yield ListenerSnapshot(
                name=name,
                kind=ListenerKind.FOR_CLIENT,
                address=f"{address}/udp" if each.request.udp else address,
                target=None,
                peer_key=key.hex().upper(),
                connections=each.listener.connections,
                accepted=each.listener.accepted,
                refused=each.listener.refused,
            )


class ReverseServer:
    """Listens at a server for a program, as an `asyncio.Server` does here. Made by `Client.start_server`.

    An asynchronous context manager: leaving it closes it. A new session with the server is asked again.
    """

    def __init__(self, running: Running, all_running: list[Running]) -> None:
        self._running = running
        self._all = all_running

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server listens now; none while it does not, or is not there."""
        return self._running.asking.addresses

    async def wait_closed(self) -> None:
        """Listen no more. Connections that are open go on."""
        if self._running in self._all:
            self._all.remove(self._running)
        await self._running.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.wait_closed()
