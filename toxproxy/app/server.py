"""The far end: lets clients in and connects where they ask for."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from weakref import WeakValueDictionary

from toxproxy.admission.access import Access
from toxproxy.admission.guests import Guests
from toxproxy.admission.requests import Requests
from toxproxy.app.admissions import Admissions, access_snapshot
from toxproxy.app.allowances import Allowances
from toxproxy.app.end import NICKNAME, End, audit_snapshot, how, waiting
from toxproxy.app.observer import Observer
from toxproxy.app.reversing import for_client
from toxproxy.audit.ledger import Ledger
from toxproxy.config.settings import Config, LogSettings
from toxproxy.control.snapshots import EndRole, ListenerSnapshot
from toxproxy.errors import Refusal, ResetCode, StateError
from toxproxy.outbound.audited import AuditedExit
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.pace import Notice
from toxproxy.reverse.listening import Listening
from toxproxy.system.state import StateFolder, option
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tunnel.friend import Friend, Phase

log = logging.getLogger(__name__)

_LINES = 20  # a minute, about the coming and going of one client
_MOST_NOTICES = 4096  # clients whose lines are counted
_SAVE_EVERY = 600.0  # seconds, at least, between two times that `clients.json` is written for `seen_at` alone


class Presence(Enum):
    """What a server's log says of a client."""

    HERE = "here"
    AWAY = "away"  # with connections that wait for it
    GONE = "gone"


class Server(End):
    """The far end: lets clients in and connects where they ask for.

    `state` is a folder, or its path, for this server's identity and the clients that were let in.
    See `End` for the errors of entering the context.
    """

    role = "server"

    def __init__(self, config: Config, state: StateFolder | str | os.PathLike[str]) -> None:
        super().__init__(config, state, config.server_name or NICKNAME)
        self.access = Access(config.access, self._state, config.clients)
        self._allowances = Allowances(self._state, self._used_up)
        self._allowances.change(config.clients)
        self._exit = Exit(config.exit, config.access.rules, config.limits.dials)
        self._ledger = Ledger(LogSettings())
        self._guests = Guests(self.node, self.access, self._friends, self._befriend)
        self._requests = self._make_requests(config)
        self._saved_at = time.monotonic()
        self._listenings = WeakValueDictionary[bytes, Listening]()  # those of friends
        self._stopped: set[bytes] = set()  # clients whose streams are about to be ended
        self._told: dict[bytes, Presence] = {}
        self._notices: OrderedDict[bytes, Notice] = OrderedDict()  # the log's lines about each client

    async def _start(self) -> None:
        self._ledger = Ledger(self.config.log)
        self._resources.push_async_callback(self._allowances.close)
        self._resources.callback(lambda: self._ledger.close())
        await self._start_node()
        self._guests.start()
        self._resources.push_async_callback(self._guests.close)
        self._resources.callback(self._save)
        admissions = Admissions(self.access, self._guests, self._friends.values, self._allowances.snapshot)
        await self._start_control(admissions.methods)

    def _make_requests(self, config: Config) -> Requests:
        return Requests(
            self.access,
            config.access.secret,
            config.limits.friend_requests,
            let_in=self._guests.let_in,
            command=lambda: f"toxproxy allow{option(self._state.path, 'server')}",
        )

    async def _take_over(self, config: Config) -> Config:
        ledger = Ledger(config.log)  # opened again even if nothing differs: its file may have been moved away
        try:
            self.access.change(config.access, config.clients)
        except BaseException:
            ledger.close()
            raise
        self._ledger.close()
        self._ledger = ledger
        self._requests = self._make_requests(config)
        self._allowances.change(config.clients)
        self._exit.change(config.exit, config.access.rules, config.limits.dials)
        self._guests.change()
        for listening in list(self._listenings.values()):
            listening.change(config.limits)
        return config

    async def drain(self) -> None:
        """Stop listening for clients, then let all connections end, for at most `DRAIN` seconds."""
        await self.reloader.close()
        for listening in list(self._listenings.values()):
            listening.close()
        await super().drain()

    def _make_observer(self) -> Observer:
        return Observer(
            EndRole.SERVER,
            self.node,
            self.config,
            self._state,
            friends=self._friends.values,
            access=lambda: access_snapshot(self.access),
            audit=lambda: audit_snapshot(self.config.log, self._ledger),
            listeners=self._listening,
            name_of=lambda key: self.access.name(key),
            allowance=lambda key: self._allowances.snapshot(key),
        )

    def _listening(self) -> Iterator[ListenerSnapshot]:
        for key, listening in list(self._listenings.items()):
            yield from for_client(key, self.access.called(key), listening)

    def friend_request(self, key: bytes, message: bytes) -> None:
        self._requests.received(key, message)

    def connection_changed(self, connection: ConnectionStatus) -> None:
        super().connection_changed(connection)
        if connection is ConnectionStatus.NONE:
            log.info("the Tox network is lost; looking for it")
        else:
            log.info("connected to the Tox network")

    def _befriend(self, number: int, key: bytes) -> Friend:
        audited = AuditedExit(
            self._exit.guest(lambda rules: self._allowances.rules(key, rules)),
            key,
            name=self.access.name,
            write=lambda record: self._ledger.write(record),
            check=lambda: self._allowances.check(key),
        )
        listening = self._listenings[key] = Listening(
            permits=lambda: section.listen if (section := self.access.section(key)) is not None else (),
            session=lambda: friend.session,
            limits=lambda: self.config.limits,
            name=lambda: self.access.called(key),
        )
        serving = Serving(
            audited,
            asked=listening.serve,
            patience=lambda: self.config.limits.patience,
            turned_away=lambda target: audited.refused(target, Refusal.TOO_MANY_STREAMS),
            meter=self._allowances.meter(key),
        )
        friend = Friend(
            self.node,
            number,
            key,
            changed=self._friend_changed,
            host=serving,
            limits=self._limits,
            grace=self.config.tox.grace,
            name_of=self.access.name,
        )
        return friend

    def _used_up(self, key: bytes) -> None:
        """A client has used its quota: end its streams, but not from within one of them."""
        if key not in self._stopped:
            self._stopped.add(key)
            asyncio.get_running_loop().call_soon(self._stop_streams, key)

    def _stop_streams(self, key: bytes) -> None:
        self._stopped.discard(key)
        for friend in self._friends.values():
            if friend.key == key and (streams := friend.streams):
                tell = self._notice(key)
                tell("client %s has used its quota; its connections are ended", self.access.called(key))
                for each in streams:
                    each.end(ResetCode.QUOTA_USED)

    def _save(self, *, seldom: bool = False) -> None:
        """Write down when clients were seen, `seldom` once in ten minutes at most."""
        for friend in self._friends.values():
            if friend.phase is Phase.READY:
                self.access.seen(friend.key)
        if not seldom or time.monotonic() - self._saved_at >= _SAVE_EVERY:
            self._saved_at = time.monotonic()
            try:
                self.access.save()
            except StateError as error:
                log.warning("%s", error)

    def _friend_changed(self, friend: Friend) -> None:
        self._observer.peer_changed(friend)
        self._tell()
        was = self._told.get(friend.key, Presence.GONE)
        now = presence(friend, was)
        if now is Presence.GONE:
            self._told.pop(friend.key, None)
        else:
            self._told[friend.key] = now
        who = self.access.called(friend.key)
        tell = self._notice(friend.key)
        match was, now:
            case _ if was is now:
                return
            case Presence.AWAY, Presence.HERE:
                tell("client %s is back, %s; its connections go on", who, how(friend.connection))
            case _, Presence.HERE:
                tell("client %s connected, %s", who, how(friend.connection))
                self._guests.met(friend)
            case _, Presence.AWAY:
                grace = self.config.tox.grace
                tell("client %s is away; %s for it, for up to %g s", who, waiting(len(friend.streams)), grace)
            case Presence.AWAY, _:
                tell("client %s left; its connections are closed", who)
            case _:
                tell("client %s left", who)
        self.access.seen(friend.key)
        self._save(seldom=True)

    def _notice(self, key: bytes) -> Notice:
        """The log lines about one client, at most `_LINES` a minute. The least recent is forgotten first."""
        notice = self._notices.pop(key, None) or Notice(log, most=_LINES)
        self._notices[key] = notice
        if len(self._notices) > _MOST_NOTICES:
            self._notices.popitem(last=False)
        return notice


def presence(client: Friend, was: Presence) -> Presence:
    """Whether a client is there now. An interruption counts only while it has streams."""
    if client.phase is Phase.READY:
        return Presence.HERE
    if client.streams:
        return Presence.AWAY
    return was if was is Presence.HERE and client.phase is Phase.LINKING else Presence.GONE
