"""How the server connects to a Unix socket of its machine: only where a rule names its path."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.trail import Trail
from toxproxy.rules import Rules
from toxproxy.system import local

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0  # seconds until the next attempt at a socket whose backlog is full
_NOBODY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.ENOTSOCK})


async def connect(path: str, rules: Rules, trail: Trail) -> socket.socket:
    """A connected, non-blocking socket. It has no time limit of its own: the caller sets one.

    What is connected to is the file that was judged, also if somebody changes the path meanwhile.
    Raises `StreamRefused`.
    """
    trail.permitted, trail.rule = rules.decide_path(path, local.real)
    if trail.permitted:  # now it may be looked for
        path = local.real(path)
        trail.permitted, trail.rule = rules.decide_path(path, local.real)
    if not trail.permitted:
        raise StreamRefused(Refusal.NOT_PERMITTED, f"not permitted (on the server: {rules.place})")
    try:
        sock = local.stream_socket()
    except OSError as error:  # none on this system, or too many are open
        raise StreamRefused(Refusal.FAILED, error.strerror or "no socket") from error
    try:
        sock.setblocking(False)
        with local.exactly(path) as name:
            await _connect(sock, name)
    except OSError as error:
        sock.close()
        if error.errno in _NOBODY:
            raise StreamRefused(Refusal.CONNECTION_REFUSED, "nothing listens there") from error
        reason = os.strerror(error.errno) if error.errno else "cannot be connected to"
        raise StreamRefused(Refusal.FAILED, reason) from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, name: str) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            sock.connect(name)
            return
        except BlockingIOError:  # the backlog is full; unlike with TCP, nothing goes on by itself
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
