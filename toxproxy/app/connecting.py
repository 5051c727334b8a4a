"""The order `connect`: a command hands over a socket, whose other end is its standard input and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from toxproxy.address import Target, is_unix, parse_host, parse_unix_target
from toxproxy.app.orders import expect, number, optional_text, text
from toxproxy.control.server import Handed, Params, Taker
from toxproxy.dialer import Dialer
from toxproxy.inbound.stdio import Stdio


class Connecting:
    """`way` gives the dialer for the name of an exit, or for None. It raises `ToxproxyError`."""

    def __init__(self, stdio: Stdio, way: Callable[[str | None], Dialer]) -> None:
        self._stdio = stdio
        self._way = way

    @property
    def takers(self) -> Mapping[str, Taker]:
        """By the names in requests."""
        return {"connect": self.connect}

    async def connect(self, params: Params, handed: Handed) -> object:
        """Connect the socket to `host` and `port` through `exit`. The answer comes at the end.

        `host` may be `unix:/path`; it needs no port.

        `ending` is an `Ending`; where it was refused, `refusal` is the name of a `Refusal`; `text` says why.
        """
        expect(params, "exit", "host", "port")
        host = text(params, "host")
        if is_unix(host):
            target = parse_unix_target(host)
        else:
            port = int(number(params, "port", 0, least=1, most=65535))
            target = Target(parse_host(host), port)
        way = self._way(optional_text(params, "exit"))
        outcome = await self._stdio.carry(handed.sock, handed.written, target, way)
        refusal = None if outcome.refusal is None else outcome.refusal.name
        return {"ending": outcome.ending.value, "refusal": refusal, "text": outcome.text}
