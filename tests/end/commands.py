"""The commands of toxproxy in processes, as a user runs them, and what they print."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

PATIENCE = 150.0  # seconds: the whole of an invitation takes about fifteen where little else runs


class Command:
    """A command in a process, with what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while more := await self.process.stdout.read(4096):
            self.said += more.decode()

    async def until(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed something."""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(pattern, self.said, re.MULTILINE)):
                assert not self._reading.done(), self.said
                await asyncio.sleep(0.02)
        return found

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            await self._reading
            return await self.process.wait()

    def words(self) -> list[str]:
        """The words of the invitation that it printed."""
        return self.printed("join")[1:]

    def printed(self, command: str) -> list[str]:
        """A command line that it printed for the user, without the program's name."""
        (line,) = re.findall(rf"^  toxproxy ({command} .*)$", self.said, re.MULTILINE)
        return shlex.split(line)


@asynccontextmanager
async def toxproxy(folder: Path, *arguments: object, place: Sequence[str] = ()) -> AsyncIterator[Command]:
    """Run a command in `folder`, which is the user's home. It is ended at the end of the block.

    `place` is the beginning of a command line that runs there what follows.
    """
    process = await asyncio.create_subprocess_exec(
        *(*place, sys.executable, "-m", "toxproxy", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
            "HOME": str(folder),
            "PYTHONPATH": os.getcwd(),
            "PYTHONUNBUFFERED": "1",
        },
    )
    command = Command(process)
    try:
        yield command
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        await command.ended()
