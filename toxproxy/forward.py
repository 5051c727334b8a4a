"""Static forwards: a local port that stands for one target at the far end, as `ssh -L` makes."""

from __future__ import annotations

from toxproxy import relay
from toxproxy.config.settings import Forward, LimitSettings
from toxproxy.dialer import Dialer
from toxproxy.errors import StreamRefused
from toxproxy.inbound.listener import DEFAULTS, Listener
from toxproxy.relay.stream import ByteStream


class ForwardListener(Listener):
    """Joins each connection to its own connection to the forward's target.

    The client's first bytes leave without waiting for the far end's answer; a refusal resets
    the client, which is what a refused TCP connection comes closest to.
    """

    def __init__(
        self, forward: Forward, dialer: Dialer, limits: LimitSettings = DEFAULTS, *, compress: bool = True
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
