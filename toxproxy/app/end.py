"""What the client and the server have in common: a Tox node, its friends, a state folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from toxproxy.app.checkup import Checkup
from toxproxy.app.observer import Observer
from toxproxy.app.orders import Orders
from toxproxy.app.reloading import Reloader
from toxproxy.audit.ledger import Ledger
from toxproxy.config.advice import Role
from toxproxy.config.changes import Changes, changes
from toxproxy.config.settings import TO_THE_LOG, Config, LimitSettings, LogSettings
from toxproxy.control.server import ControlServer, Method, Taker
from toxproxy.control.snapshots import AuditSnapshot, PeerSnapshot, Snapshot
from toxproxy.mapping.mapper import Mapper
from toxproxy.mux.limits import Limits, Pool
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tunnel.friend import Friend, short

log = logging.getLogger(__name__)

NICKNAME = "toxproxy"  # the Tox nickname: it tells nothing of what is behind it
DRAIN = 10.0  # seconds that streams get to end when the program stops


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener's entry in the ready file."""

    name: str
    kind: str  # "forward", "udp" (one for datagrams) or "socks"
    address: str


class End:
    """An asynchronous context manager: entering it joins the Tox network, leaving it leaves.

    `state` is the folder of this end's identity, or its path; it is made where it is missing, and
    locked until the end. Entering raises `StateError` for a folder that cannot be used or is in use,
    and what `Node.start` raises.
    """

    role: Role

    def __init__(self, config: Config, state: StateFolder | str | os.PathLike[str], name: str) -> None:
        self.config = config
        self._state = state if isinstance(state, StateFolder) else StateFolder(Path(state))
        self.node = Node(config.tox, self._state, name, self)
        self._limits = Limits(pool=Pool(config.limits.process_memory))  # of each friend, and of all together
        set_limits(self._limits, config.limits)
        self.node.woke = self._woke
        self._friends: dict[int, Friend] = {}
        self.mapper: Mapper | None = None  # of the node's UDP port, if the configuration lets it ask
        self.methods: Mapping[str, Method] = {}  # what this end can be asked, once it runs
        self._resources = contextlib.AsyncExitStack()
        self._watchers: list[Callable[[], None]] = []
        self._observer = self._make_observer()
        self.reloader = Reloader(self.role, self.reload)

    async def __aenter__(self) -> Self:
        try:
            self._resources.enter_context(self._state.lock())
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    async def _start(self) -> None:
        raise NotImplementedError

    def _make_observer(self) -> Observer:
        raise NotImplementedError

    def status(self) -> Snapshot:
        """What there is to know about this end at the moment. Only while it runs."""
        return self._observer.take()

    async def measured(self) -> Snapshot:
        """`status` with rates. It takes half a second where nobody asked lately."""
        return await self._observer.measured()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever `peers`, or the way to the Tox network, may be another."""
        self._watchers.append(changed)

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    def peers(self) -> tuple[PeerSnapshot, ...]:
        """The part of `status` about the other ends."""
        return self._observer.peers()

    async def reload(self, config: Config) -> Changes:
        """Take over what can change while running, without touching a connection. Says what differs.

        [tox], [web] and the nickname stay. Raises `ToxproxyError`; then nothing has changed. One at a time;
        do not cancel it.
        """
        found = changes(self.config, config, self.role)
        now = self.config
        config = replace(config, tox=now.tox, web=now.web, server_name=now.server_name)
        self.config = await self._take_over(config)
        set_limits(self._limits, config.limits)
        self._observer.config = self.config
        return found

    async def _take_over(self, config: Config) -> Config:
        """Check all of `config`, then switch to it. Returns it as it holds. Raises as `reload`."""
        raise NotImplementedError

    async def _start_control(
        self, more: Mapping[str, Method], takers: Mapping[str, Taker] | None = None
    ) -> None:
        """Answer on the control socket: what both roles can be asked, `more`, and `takers`."""
        orders = Orders(self._observer, self._friends.values).methods
        checkup = Checkup(self._observer, self._friends.values).methods
        self.methods = {**orders, **checkup, "reload": self.reloader.ordered, **more}
        self.reloader.open()
        control = ControlServer(self._state.path, self.methods, takers)
        await control.start()
        self._resources.push_async_callback(self.reloader.close)
        self._resources.push_async_callback(control.close)

    async def _start_node(self) -> None:
        await self._resources.enter_async_context(self.node)
        if self.config.tox.maps_port and self.node.udp_port is not None:
            self.mapper = Mapper(self.node.udp_port, changed=self.mapping_changed)
            self.mapper.start()
            self._observer.mapper = self.mapper
            self._resources.push_async_callback(self.mapper.close)
        self._resources.push_async_callback(self._close_friends)

    async def _close_friends(self) -> None:
        async with asyncio.TaskGroup() as group:
            for friend in self._friends.values():
                group.create_task(friend.close("stopping"))

    @property
    def streams(self) -> int:
        """How many streams live, with all friends together."""
        return sum(len(friend.streams) for friend in self._friends.values())

    @property
    def connections(self) -> int:
        """How many connections `drain` would wait for."""
        return sum(friend.connections for friend in self._friends.values())

    async def drain(self) -> None:
        """Let the streams end by themselves, for at most `DRAIN` seconds."""
        await self.reloader.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                for friend in list(self._friends.values()):
                    await friend.idle()

    def describe(self) -> dict[str, object]:
        """The content of the ready file."""
        node = self.node
        return {
            "tox_id": str(node.tox_id),
            "public_key": node.public_key.hex().upper(),
            "dht_key": node.dht_key.hex().upper(),
            "udp_port": node.udp_port,
            "tcp_port": node.tcp_port,
            "listeners": [asdict(listening) for listening in self.listening()],
        }

    def listening(self) -> Iterator[Listening]:
        """Every address that is listened on."""
        return iter(())

    # What the node says

    def connection_changed(self, connection: ConnectionStatus) -> None:
        self._observer.network_changed()
        log.debug("Tox network: %s", connection.name.lower())
        self._tell()

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None:
        if (known := self._friends.get(friend)) is not None:
            known.connection_changed(connection)

    def _woke(self, asleep: float) -> None:
        log.info("woke after %.0f s; looking for the peers where they were", asleep)
        for friend in self._friends.values():
            friend.woke(asleep)

    def mapping_changed(self) -> None:
        """`mapper.mapping` has another address or port, or is none any more: friends are told."""
        mapping = self.mapper.mapping if self.mapper is not None else None
        self.node.map([(mapping.address, mapping.port)] if mapping is not None and mapping.public else [])

    def friend_request(self, key: bytes, message: bytes) -> None:
        log.debug("friend request of %s ignored", short(key))


def audit_snapshot(log: LogSettings, ledger: Ledger) -> AuditSnapshot | None:
    """Where the audit goes."""
    if log.audit is None:
        return None
    return AuditSnapshot(file=None if log.audit == TO_THE_LOG else log.audit, lost=ledger.lost)


def set_limits(limits: Limits, settings: LimitSettings) -> None:
    """Bound what each of this process's friends may make it hold, and all together."""
    limits.pool.size = settings.process_memory
    limits.window = min(Limits().window, settings.stream_memory)
    limits.most_window = settings.stream_memory
    limits.session_window = settings.memory
    limits.streams = settings.streams
    limits.flows = settings.flows
    limits.flow_idle = settings.patience.udp_idle


def waiting(count: int) -> str:
    """Connections as the subject and the verb of a sentence."""
    return "1 connection waits" if count == 1 else f"{count} connections wait"


def how(connection: ConnectionStatus) -> str:
    """A kind of connection, for people."""
    return {
        ConnectionStatus.UDP: "direct",
        ConnectionStatus.TCP: "through a relay",
        ConnectionStatus.NONE: "not connected",
    }[connection]
