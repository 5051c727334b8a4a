"""Runs the programs that people use with the tunnel."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass

import pytest

_SECONDS = 60.0


@dataclass(frozen=True)
class Finished:
    """The exit status and the output of a program."""

    status: int | None
    out: bytes
    err: str


def program(name: str) -> str:
    """The path of a program. If it is missing, the test is skipped; in CI it fails."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


async def run(name: str, *arguments: str, stdin: bytes = b"") -> Finished:
    """Run a program to its end. It is killed after a minute."""
    process = await asyncio.create_subprocess_exec(
        program(name),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Finished(process.returncode, out, err.decode(errors="replace"))


async def curl(*arguments: str) -> Finished:
    """Run curl without a configuration file and without proxy settings in the environment."""
    return await run("curl", "-q", "-sS", "--noproxy", "", "--max-time", "30", *arguments)
