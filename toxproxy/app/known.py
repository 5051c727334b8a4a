"""The servers that have let this client in before: `servers.json` in its state folder.

It only tells a server that is off from one that has to be asked; nothing is decided by it. One JSON
object: public keys (64 hexadecimal digits), with when each was met first, in seconds since 1970.
"""

from __future__ import annotations

import json
import logging
import time

from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder

log = logging.getLogger(__name__)

FILE = "servers.json"


class KnownServers:
    """What the file says; a damaged one says nothing. It is read once, and written for each new server."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._met: dict[str, object] = {}

    def read(self) -> None:
        """Read the file. Raises `StateError` if that is not possible."""
        data = self._state.read(FILE)
        try:
            met = json.loads(data) if data is not None else {}
        except (ValueError, RecursionError):
            met = None
        self._met = met if isinstance(met, dict) else {}

    def knows(self, key: bytes) -> bool:
        """Whether this server has let the client in before."""
        return key.hex().upper() in self._met

    def met(self, key: bytes) -> None:
        """This server has let the client in. A file that cannot be written is a warning."""
        if not self.knows(key):
            self._met[key.hex().upper()] = int(time.time())
            try:
                self._state.write(FILE, json.dumps(self._met, indent=1).encode() + b"\n")
            except StateError as error:
                log.warning("%s", error)
