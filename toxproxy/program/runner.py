"""Runs a server or a client as a process: start, wait for a signal, drain, end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.errors import ToxproxyError
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.supervision import Supervision
from toxproxy.system import descriptors, loops, privileges
from toxproxy.system.notify import Notifier
from toxproxy.tox import library

log = logging.getLogger(__name__)

# With this environment variable, the user's other programs may look into the process (for debugging).
INSPECTABLE = "TOXPROXY_INSPECTABLE"

T = TypeVar("T")


async def run(
    end: Server | Client,
    *,
    beside: AbstractAsyncContextManager[Mapping[str, object]] | None = None,
    started: Callable[[], None] = lambda: None,
    ready_file: Path | None = None,
) -> None:
    """Run `end` until a signal comes, then drain it. A second signal ends the draining. SIGHUP reloads.

    `beside` runs as long as `end`; what it returns is added to the ready file. `started` is called once
    everything is bound; a service manager is told, too. `ready_file` exists from then on until the end. The
    process gives up the rights in `privileges`, for good. Raises what the start of `end` raises, and
    `ToxproxyError` for a ready file that cannot be written.
    """
    notifier = Notifier()
    confine()
    async with AsyncExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(end.reloader.signalled))
        running = False
        async with interrupts.ending():
            await stack.enter_async_context(end)
            more = await stack.enter_async_context(beside or nullcontext({}))
            running = True
        if not running:
            return
        privileges.keep_capabilities(())  # all ports are bound
        if ready_file is not None:
            stack.enter_context(_file(ready_file, {"pid": os.getpid(), **end.describe(), **more}))
        if warning := library.warning():
            log.warning("%s", warning)
        log.info("%s", _summary(end), extra={"event": "started"})
        started()
        with Supervision(end, notifier):
            async with interrupts.ending():
                await asyncio.get_running_loop().create_future()
        if count := end.connections:
            what = "1 connection" if count == 1 else f"{count} connections"
            log.info("waiting for %s to end (Ctrl-C again to leave now)", what)
        async with interrupts.ending():
            await end.drain()


def confine() -> None:
    """Take the descriptors that an end may need, and give up all rights but to bind low ports."""
    descriptors.allow_most()
    privileges.forbid_memory_locking()
    if INSPECTABLE not in os.environ:
        privileges.close_memory()
    privileges.keep_capabilities({privileges.CAP_NET_BIND_SERVICE})


def run_loop(main: Coroutine[Any, Any, T], *, children: bool = False) -> T:
    """As `asyncio.run`, on the loop of `loops.factory`."""
    descriptors.occupy_standard()
    with asyncio.Runner(loop_factory=loops.factory(children=children)) as loop:
        return loop.run(main)


def _summary(end: Server | Client) -> str:
    listeners = ", ".join(f"{listening.address} ({listening.name})" for listening in end.listening())
    port = end.node.udp_port
    tox = "Tox over TCP only" if port is None else f"Tox on UDP port {port}"
    tox += f" (libtoxcore {library.version()})"
    return f"listening on {listeners}; {tox}" if listeners else f"running; {tox}"


@contextmanager
def _file(path: Path, content: dict[str, object]) -> Iterator[None]:
    """A block during which the file exists, with all of its content at once. Raises `ToxproxyError`."""
    try:
        _replace(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise ToxproxyError(f"the ready file {path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
