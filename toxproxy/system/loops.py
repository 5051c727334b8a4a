"""The event loop: uvloop where it has wheels, otherwise asyncio's own.

An end watches sockets of others (`add_reader`), which Windows' default loop cannot do. The one that can
uses select(), which takes 512 sockets in Python for Windows (FD_SETSIZE), and starts no processes.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import time
from collections.abc import Callable

from toxproxy.system.clocks import monotonic

log = logging.getLogger(__name__)

MOST = 512  # sockets of a loop by select()

_selectors: list[selectors.SelectSelector] = []


def factory(*, children: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a loop. With `children` it starts processes, and watches no sockets of others."""
    if sys.platform == "win32":
        return asyncio.new_event_loop if children else _by_select
    try:
        import uvloop
    except ImportError:
        log.debug("uvloop is not installed: on asyncio's own event loop, which is slower")
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def room() -> int:
    """How many more sockets a loop by select() can watch."""
    return MOST - max((len(each.get_map() or ()) for each in _selectors), default=0)


def _by_select() -> asyncio.AbstractEventLoop:
    selector = selectors.SelectSelector()
    _selectors[:] = [selector]
    return _Loop(selector)


class _Loop(asyncio.SelectorEventLoop):
    """Its clock is the fine one, so that a session and its timer have the same."""

    def __init__(self, selector: selectors.SelectSelector) -> None:
        super().__init__(selector)
        self._clock_resolution = time.get_clock_info("perf_counter").resolution  # else timers ring early

    def time(self) -> float:
        return monotonic()
