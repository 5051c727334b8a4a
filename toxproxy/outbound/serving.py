"""Serves the streams of one client: dials their targets, and joins the two."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from toxproxy import relay
from toxproxy.address import Target, UdpTarget
from toxproxy.dialer import Flow, FlowOwner, Way
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.pace import Notice
from toxproxy.patience import Patience
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.meter import Meter
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)


class Serving(Host):
    """Dials through `exit`. `patience` says for how long a new connection may be silent.

    `turned_away` gets the targets of streams beyond the limit, which were refused; `asked` answers the
    requests to listen. `meter` bounds what is carried.
    """

    def __init__(
        self,
        exit: Way,
        patience: Callable[[], Patience] = Patience,
        turned_away: Callable[[Target], None] = lambda _: None,
        asked: Callable[[StreamTransport, Target], Awaitable[None]] | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._asked = asked
        if meter is not None:
            self.meter = meter
        self._exit = exit
        self._patience = patience
        self._turned_away = turned_away
        self._halves = relay.Halves()
        self._silent = Notice(log)  # a connection was reset, since no byte came
        self._failed = Notice(log, logging.ERROR, most=5)  # a connection was not opened because of a bug

    @property
    def connections(self) -> int:
        return len(self._halves)

    async def serve(self, transport: StreamTransport, target: Target) -> None:
        if self._asked is not None and target.asks_to_listen:
            await self._asked(transport, target)
            return
        near, far = relay.pair(self._patience(), self._silent)
        try:
            await self._exit.dial(lambda: far, target)
            log.debug("stream to %s opened", target)
        except StreamRefused as error:
            log.debug("stream to %s refused: %s", target, error.text)
            transport.refuse(error.code, error.text)
        except Exception:
            self._failed("opening a connection to %s failed", target, exc_info=True)
            transport.refuse(Refusal.FAILED, "internal error; the log there says more")
        else:
            self._halves.add(far)
            if not transport.accept(near):
                far.reset()

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        return self._exit.open_flow(owner, target)

    def turned_away(self, target: Target) -> None:
        self._turned_away(target)

    async def idle(self) -> None:
        await self._halves.idle()

    def reset(self) -> None:
        self._halves.reset()
