"""Programs that a measurement starts in a place of the emulated network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from toxproxy.demo.network import Place
from toxproxy.errors import ToxproxyError

_STOP_SECONDS = 5.0
_TAIL_BYTES = 2000
_LINE_BYTES = 1 << 24  # the longest line of output: a result may hold thousands of times


class ProgramFailed(ToxproxyError):
    """A program ended too early. The text has the end of its error output."""


class Program:
    """A running program. Its error output goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def line(self) -> str:
        """The next line of its output. Raises `ProgramFailed` if the program has ended."""
        assert self._process.stdout is not None
        if not (line := await self._process.stdout.readline()):
            raise ProgramFailed(f"{self._log.stem} ended early; its last output:\n{self._last_words()}")
        return line.decode()

    async def result(self) -> dict[str, Any]:
        """The next line of its output, decoded from JSON. Raises `ProgramFailed`."""
        data: dict[str, Any] = json.loads(await self.line())
        return data

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def end_input(self) -> None:
        """Close its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def stop(self) -> None:
        """Terminate it; kill it if it does not end in time."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-_TAIL_BYTES:]


@contextlib.asynccontextmanager
async def running(place: Place, folder: Path, name: str, *command: str) -> AsyncIterator[Program]:
    """Run a program until the end of the block. Its error output goes to `folder`/`name`.log."""
    log = folder / f"{name}.log"
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *place.command,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C must reach the benchmark only: it ends the programs in order
        )
    program = Program(process, log)
    try:
        yield program
    finally:
        await program.stop()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs a Python module of this checkout."""
    return sys.executable, "-m", module, *arguments
