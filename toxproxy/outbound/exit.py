"""The server's way out: ask the rules, look up the name, connect.

An `Exit` is a `Dialer` that dials from this machine, directly or through an upstream proxy. It looks a
name up once and dials the addresses that the rules have permitted, so a second DNS answer cannot change
where the connection goes (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from weakref import WeakKeyDictionary

from toxproxy.address import Address, OpenUdpTarget, Target, UdpTarget, parse_host, plain_address
from toxproxy.config.settings import DEFAULT, ExitSettings
from toxproxy.dialer import FlowOwner, P, feed
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound import eyeballs, service, unix
from toxproxy.outbound.trail import Trail
from toxproxy.outbound.udp import Found, UdpFlow, reached
from toxproxy.outbound.upstream import Upstream
from toxproxy.pace import Notice
from toxproxy.rules import Decision, Rules, Verdict
from toxproxy.system import local
from toxproxy.system.descriptors import scarce
from toxproxy.system.interfaces import Interfaces
from toxproxy.system.resolver import NO_SUCH_NAME, Resolver

log = logging.getLogger(__name__)


class Exit:
    """Dials the targets that `rules` permit from this machine.

    At most `dials` are under way at once; more wait for their turn. They are not refused: a browser that
    restores two hundred tabs is no attack, and the limit on the friend's streams bounds how many wait.
    A dial takes at most `settings.connect_timeout` seconds, with its wait and its look-up.
    """

    def __init__(
        self,
        settings: ExitSettings,
        rules: Rules,
        dials: int = DEFAULT.limits.dials,
        *,
        interfaces: Interfaces | None = None,
        short: Notice | None = None,
        served: set[object] | None = None,
    ) -> None:
        self._settings, self._rules, self._dials = settings, rules, dials
        self._upstream = None if settings.upstream is None else Upstream(settings.upstream)
        self._resolver = Resolver()
        self._turns = asyncio.Semaphore(dials)
        self._guests = WeakKeyDictionary[Exit, Callable[[Rules], Rules]]()
        self._interfaces = interfaces or Interfaces()
        self._short = short or Notice(log, logging.WARNING)
        self._served: set[object] = set() if served is None else served  # connections to the server itself
        self._service = service.Service(self._resolver if self._upstream is None else None, self._served)

    def guest(self, own: Callable[[Rules], Rules] = lambda rules: rules) -> Exit:
        """An exit for one friend, with turns and look-ups of its own. `own` makes its rules of these.

        If this friend's targets or name servers do not answer, no other friend is delayed.
        """
        guest = Exit(
            self._settings,
            own(self._rules),
            self._dials,
            interfaces=self._interfaces,
            short=self._short,
            served=self._served,
        )
        self._guests[guest] = own
        return guest

    def change(self, settings: ExitSettings, rules: Rules, dials: int) -> None:
        """Dial by other settings and rules from now on, and so all guests. Connections are left alone.

        A dial that is under way keeps the rules by which it was judged, or is judged by the new ones.
        """
        if settings.upstream != self._settings.upstream:
            self._upstream = None if settings.upstream is None else Upstream(settings.upstream)
            self._service.resolver = self._resolver if self._upstream is None else None
        if dials != self._dials:
            self._turns = asyncio.Semaphore(dials)
        self._settings, self._rules, self._dials = settings, rules, dials
        for guest, own in self._guests.items():
            guest.change(settings, own(rules), dials)

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
        trail: Trail | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to `target` and return (transport, protocol); see `Dialer.dial`.

        What the server answers itself (see `service`) needs no rule: it leads nowhere.

        `early` and `compress` have no effect here, where there is no tunnel. `trail` is filled in.

        Raises `StreamRefused`. Its text never names an address that a look-up found.
        """
        try:
            async with asyncio.timeout(self._settings.connect_timeout), self._turns:
                if target.host == service.HOST:
                    return await self._service.dial(protocol_factory, target.port)
                sock, early_bytes = await self._connect(target, trail or Trail())
                self._check_files(sock)
                transport, protocol = await _adopt(sock, protocol_factory)
        except TimeoutError:
            text = f"no answer within {self._settings.connect_timeout:g} seconds"
            raise StreamRefused(Refusal.TIMED_OUT, text) from None
        if early_bytes:
            feed(protocol, early_bytes)
        return transport, protocol

    def open_flow(self, owner: FlowOwner, target: UdpTarget, trail: Trail | None = None) -> UdpFlow:
        """A flow of datagrams to `target`; see `FlowDialer`. `trail` is filled in."""
        anywhere = isinstance(target, OpenUdpTarget)
        return UdpFlow(owner, lambda: self._reached(target, trail or Trail()), anywhere=anywhere)

    async def _reached(self, target: UdpTarget, trail: Trail) -> Found:
        """A UDP socket for `target`, and its address. Raises `StreamRefused`."""
        if self._upstream is not None:
            text = "the server connects through an upstream proxy, which carries no UDP"
            raise StreamRefused(Refusal.UNSUPPORTED, text)
        try:
            async with asyncio.timeout(self._settings.connect_timeout), self._turns:
                address = _literal(target)
                verdict = self._judged_name(target, trail) if address is None else None
                permitted = await self._permitted(target, address, verdict, trail)
                sock, address_there = reached(target, list(permitted))
        except TimeoutError:
            text = f"its name was not found within {self._settings.connect_timeout:g} seconds"
            raise StreamRefused(Refusal.TIMED_OUT, text) from None
        self._check_files(sock)
        trail.connected(plain_address(address_there[0]), permitted)
        return sock, address_there

    def _check_files(self, sock: socket.socket) -> None:
        if scarce(sock):
            sock.close()
            self._short("connections are refused: nearly all file descriptors are in use (ulimit -n)")
            text = "the server has as many connections open as it can"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)

    async def _connect(self, target: Target, trail: Trail) -> tuple[socket.socket, bytes]:
        """A connected socket, and the bytes that were read from it already."""
        if target.path is not None:
            return await unix.connect(target.path, self._rules, trail), b""
        address = _literal(target)
        verdict = self._judged_name(target, trail) if address is None else None
        if verdict is Verdict.PERMITTED and self._upstream is not None:
            trail.permitted, trail.rule = True, self._rules.deciding(target)
            return await self._upstream.connect(target)
        permitted = await self._permitted(target, address, verdict, trail)
        if self._upstream is not None:
            return await _connect_through(self._upstream, target, list(permitted))
        sock = await _connect_directly(target, list(permitted))
        with contextlib.suppress(OSError):  # it is gone already
            trail.connected(plain_address(sock.getpeername()[0]), permitted)
        return sock, b""

    def _judged_name(self, target: Target, trail: Trail) -> Verdict:
        """What the rules say about a name. Raises `StreamRefused` if they deny it."""
        verdict = self._rules.judge_name(target)
        if verdict is Verdict.DENIED:
            trail.permitted, trail.rule = False, self._rules.deciding(target)
            raise _not_permitted(target, self._rules)
        return verdict

    async def _permitted(
        self, target: Target, address: Address | None, verdict: Verdict | None, trail: Trail
    ) -> dict[Address, Decision]:
        """The addresses of `target`, one at least, that the rules permit. Raises `StreamRefused`."""
        try:
            found = await self._look_up(target) if address is None else [address]
        except StreamRefused as refused:
            if verdict is not Verdict.IF_PERMITTED:
                raise
            # A client may not learn whether a name exists that the rules do not permit.
            log.debug("%s: %s; the client is told that it is not permitted", target, refused.text)
            found = []
        decisions = self._decide(target, found)
        trail.judged(decisions)
        permitted = {each: decision for each, decision in decisions.items() if decision.permitted}
        if not permitted:
            raise _not_permitted(target, self._rules)
        return permitted

    def _decide(self, target: Target, addresses: list[Address]) -> dict[Address, Decision]:
        try:
            machine = self._interfaces.machine() if self._rules.need_machine else None
        except OSError as error:
            text = "the server cannot find out its own addresses, which its rules need"
            raise StreamRefused(Refusal.FAILED, text) from error
        return {each: self._rules.decide(target, each, machine) for each in addresses}

    async def _look_up(self, target: Target) -> list[Address]:
        if _never_exists(target.host):
            raise _refused(Refusal.NAME_NOT_FOUND)
        try:
            addresses = await self._resolver.look_up(target.host)
        except socket.gaierror as error:
            if error.errno in NO_SUCH_NAME:
                raise _refused(Refusal.NAME_NOT_FOUND) from error
            text = "the server's name resolver does not answer"
            raise StreamRefused(Refusal.FAILED, text) from error
        return list(dict.fromkeys(map(plain_address, addresses)))


def _never_exists(host: str) -> bool:
    """Whether a name is under `invalid`, where no name exists (RFC 6761, section 6.4)."""
    return host.lower().removesuffix(".").rpartition(".")[2] == "invalid"


def _literal(target: Target) -> Address | None:
    """The target's address if it is one, None for a name.

    Raises `StreamRefused` for what is neither, and for an address with a zone (`fe80::1%eth0`): a zone
    has a meaning only on the machine that it was written on.
    """
    try:
        host = parse_host(target.host)
    except ValueError as error:
        raise StreamRefused(Refusal.NAME_NOT_FOUND, str(error)) from None
    if "%" in host:
        raise StreamRefused(Refusal.UNSUPPORTED, "an address with a zone cannot be dialled")
    try:
        return plain_address(host)
    except ValueError:
        return None


async def _connect_directly(target: Target, addresses: list[Address]) -> socket.socket:
    try:
        return await eyeballs.connect(addresses, target.port)
    except OSError as error:
        code = eyeballs.REFUSALS.get(error.errno or 0, Refusal.FAILED)
        if code is not Refusal.FAILED:
            raise _refused(code) from error
        reason = os.strerror(error.errno) if error.errno else "cannot be connected to"
        raise StreamRefused(code, reason) from error


async def _connect_through(
    upstream: Upstream, target: Target, addresses: list[Address]
) -> tuple[socket.socket, bytes]:
    """Have the upstream connect to one address after the other, until one answers.

    It is given addresses and not the name, so it connects to those that were checked.
    """
    for address in addresses[:-1]:
        with contextlib.suppress(StreamRefused):
            return await upstream.connect(target, address)
    return await upstream.connect(target, addresses[-1])


async def _adopt(sock: socket.socket, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    try:
        return await local.join(sock, protocol_factory)
    except BaseException:
        sock.close()
        raise


def _refused(code: Refusal) -> StreamRefused:
    return StreamRefused(code, code.words)


def _not_permitted(target: Target, rules: Rules) -> StreamRefused:
    """One text for every reason: a client does not learn whether a rule, an address or a name decided."""
    words: dict[type[Target], str] = {UdpTarget: ", with /udp", OpenUdpTarget: ", with /udp+any"}
    where = rules.place + words.get(type(target), "")
    return StreamRefused(Refusal.NOT_PERMITTED, f"not permitted (on the server: {where})")
