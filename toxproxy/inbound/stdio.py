"""Connections that `toxproxy connect` hands over: one end of a socket pair each. There is no port."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from toxproxy import relay
from toxproxy.address import MAX_WORDS, Target, shown
from toxproxy.config.settings import LimitSettings
from toxproxy.dialer import Dialer
from toxproxy.errors import Refusal, StreamError, StreamRefused, ToxproxyError
from toxproxy.pace import Notice
from toxproxy.relay.stream import ByteStream, cancelled_when
from toxproxy.system import local

log = logging.getLogger(__name__)

NAME = "connect"  # in the log, and as a listener
_LINES = 10  # a minute, about connections that were refused


class Ending(Enum):
    """How a connection ended."""

    FINISHED = "finished"  # both directions, in order
    REFUSED = "refused"  # it was not opened
    RESET = "reset"  # data may be missing


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a connection ended, and why in words. `refusal` is there where it was refused."""

    ending: Ending
    refusal: Refusal | None = None
    text: str = ""


class Stdio:
    """Joins each socket with a connection to its target. At most `limits.connections` at a time.

    The first bytes leave before the far end has answered, as with a forward.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits
        self.connections = self.accepted = self.refused = 0
        self._refused = Notice(log, most=_LINES)
        self._reset = Notice(log)

    async def carry(
        self, sock: socket.socket, written: Callable[[], bool], target: Target, dialer: Dialer
    ) -> Outcome:
        """Join `sock` with a connection to `target`, until both have ended. The socket is used up.

        `written` tells whether the end of what comes from `sock` was meant; if not, its process has ended.
        Raises `ToxproxyError` at the limit.
        """
        if self.connections >= self.limits.connections:
            raise ToxproxyError(f"{self.connections} connections are open ([limits] connections)")
        self.connections += 1
        self.accepted += 1
        try:
            return await self._carry(sock, written, target, dialer)
        except StreamRefused as refused:
            self.refused += 1
            self._refused("%s: %s refused: %s", NAME, target, shown(refused.text, MAX_WORDS))
            return Outcome(Ending.REFUSED, refused.code, refused.text)
        finally:
            self.connections -= 1

    async def _carry(
        self, sock: socket.socket, written: Callable[[], bool], target: Target, dialer: Dialer
    ) -> Outcome:
        near = _Near(written, self.limits.patience, self._reset)
        sock.setblocking(False)
        await local.join(sock, lambda: near)
        try:
            with cancelled_when(near.lost):
                _, far = await dialer.dial(ByteStream, target, early=True)
            why = await relay.run(near, far)
        finally:
            near.reset()
        if isinstance(why, StreamRefused):
            raise why
        if why is None and near.complete:
            return Outcome(Ending.FINISHED)
        return Outcome(Ending.RESET, text=str(why) if isinstance(why, StreamError) else "")


class _Near(ByteStream):
    """The end of the pair. The other one is closed also where its process was killed."""

    __slots__ = ("_written",)

    def __init__(self, written: Callable[[], bool], *rest: Any) -> None:
        super().__init__(*rest)
        self._written = written

    def eof_received(self) -> bool:
        if not self._written():
            self.reset()  # what came may be cut
            return True
        return super().eof_received()
