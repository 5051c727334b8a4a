"""Forwards: a local port whose connections go to one target at the far end, as with `ssh -L`."""

from __future__ import annotations

from toxproxy import relay
from toxproxy.config.settings import LimitSettings
from toxproxy.dialer import Dialer
from toxproxy.errors import StreamRefused
from toxproxy.inbound.listener import DEFAULTS, Leading, Listener
from toxproxy.relay.stream import ByteStream


class ForwardListener(Listener):
    """Opens a connection to the target for each client, and joins the two.

    The client's first bytes leave before the far end has answered. A refusal resets the client's
    connection: it is open already, so it can no longer be refused.
    """

    def __init__(
        self, forward: Leading, dialer: Dialer, limits: LimitSettings = DEFAULTS, *, compress: bool = True
    ) -> None:
        super().__init__(forward.name, forward.bind, dialer, limits, compress=compress)
        self._target = forward.target

    async def serve(self, client: ByteStream) -> None:
        try:
            far = await self.open(client, self._target, early=True)
        except StreamRefused:
            return
        reason = await relay.run(client, far)
        if isinstance(reason, StreamRefused):
            self.log_refused(self._target, reason)
