"""The privileges that a running program has given up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.end.world import proc
from toxproxy.demo.network import Process
from toxproxy.program.runner import INSPECTABLE

TOX_ID = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="prctl and capabilities of Linux"
)

# A server that prints, once it is ready, what other programs may do with it, and stops.
_SERVER = """
import asyncio, ctypes, json, os, resource, signal, sys
from pathlib import Path
from toxproxy import config
from toxproxy.program import runner
from toxproxy.app import Server
from toxproxy.system.state import StateFolder
def told():
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print(json.dumps([dumpable, resource.getrlimit(resource.RLIMIT_CORE)]))
    os.kill(os.getpid(), signal.SIGTERM)
server = Server(config.parse(sys.argv[2], "x"), StateFolder(Path(sys.argv[1])))
asyncio.run(runner.run(server, started=told))
"""


def fields(process: Process) -> dict[str, str]:
    """The status of a process (proc(5))."""
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in proc(process, "status"))
    }


@pytest.mark.parametrize("inspectable", [False, True])
def test_the_memory_of_a_server_is_not_for_other_programs_unless_that_is_said(
    inspectable: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _SERVER, str(tmp_path / "state"), ALONE]
    environment = {name: value for name, value in os.environ.items() if name != INSPECTABLE}
    if inspectable:
        environment[INSPECTABLE] = "yes"
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert run.returncode == 0, run.stderr
    dumpable, core = json.loads(run.stdout)
    assert dumpable == inspectable
    assert inspectable or core == [0, 0]


def test_a_program_that_uses_the_library_keeps_its_privileges() -> None:
    script = "import ctypes, toxproxy.app; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize("role", ["server", "client"])
async def test_a_running_program_has_no_capability(role: str, tmp_path: Path) -> None:
    process = Process(role, tmp_path)
    try:
        await process.start(f"{ALONE}[socks]\nbrowser = 0:{TOX_ID}\n")
        status = fields(process)
    finally:
        assert await process.stop() == 0
    for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may bind ports below 1024")
async def test_root_can_still_listen_on_ports_below_1024(tmp_path: Path) -> None:
    with socket.socket() as sock:
        port = next(port for port in range(700, 1024) if sock.connect_ex(("127.0.0.1", port)))
    process = Process("client", tmp_path)
    try:
        await process.start(f"{ALONE}[socks]\nbrowser = {port}:{TOX_ID}\n")
        with socket.create_connection(("127.0.0.1", port)):
            os.kill(process.pid, signal.SIGTERM)
    finally:
        assert await process.stop() == 0
