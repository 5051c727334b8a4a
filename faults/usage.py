"""What a process uses: memory, descriptors, connections (Linux)."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from toxproxy.errors import ToxproxyError

MOST_MEMORY = 24_000_000  # bytes: a smaller increase does not count as a leak
MOST_DESCRIPTORS = 4  # the same for descriptors: a link that is being replaced has two sockets

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


class ProcessEnded(ToxproxyError):
    """The process has ended."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Private `memory` in bytes, open `descriptors`, and the TCP `connections` among them."""

    memory: int
    descriptors: int
    connections: int

    def at_rest(self, before: Usage) -> bool:
        """Whether all connections are closed and the descriptors are about as few as before."""
        return not self.connections and self.descriptors <= before.descriptors + MOST_DESCRIPTORS

    def excess(self, before: Usage) -> list[str]:
        """What the process should have released and did not, one sentence each."""
        found = []
        if (more := self.memory - before.memory) > MOST_MEMORY:
            found.append(
                f"{more / 1e6:.0f} MB more memory than before, expected {MOST_MEMORY / 1e6:.0f} at most"
            )
        if (more := self.descriptors - before.descriptors) > MOST_DESCRIPTORS:
            found.append(f"{more} descriptors more than before, expected {MOST_DESCRIPTORS} at most")
        if self.connections:
            found.append(f"{self.connections} TCP connections, expected none")
        return found


def usage(name: str, pid: int) -> Usage:
    """The usage of a process. Raises `ProcessEnded`, whose text calls it `name`."""
    try:
        held = _descriptors(pid)
        return Usage(machine.memory(pid), len(held), len(_connections(pid).intersection(held)))
    except OSError:
        raise ProcessEnded(f"the {name} ended by itself") from None


def _descriptors(pid: int) -> list[str]:
    """The targets of the process's descriptors, as /proc/PID/fd shows them."""
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(entry.path))
    return links


def _connections(pid: int) -> set[str]:
    """All TCP connections in the network namespace of a process, as descriptors show them."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {f"socket:[{row[9]}]" for row in rows if row[3] != _LISTENING}
