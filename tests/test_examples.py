"""The configurations and programs in examples/ work, and docs/configuration.md shows every key."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from tests.documents import blocks, read
from tests.joined import node_of
from toxproxy import config
from toxproxy.app.server import Server
from toxproxy.config import parsing
from toxproxy.demo.site import Site
from toxproxy.system.state import StateFolder

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "examples" / "library.py"
CONFIGURATIONS = blocks(read("docs/configuration.md"), "ini")
PRIVATE = """\
[tox]
bootstrap = {bootstrap}
local_discovery = no
port = 24000-24999
wait = 60
[access]
secret = let me in
permit = 127.0.0.1:*
"""


async def library(*arguments: object) -> tuple[int | None, bytes, str]:
    """Run the example program. Returns its exit status, output and error output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, LIBRARY, *map(str, arguments),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(90):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out, err.decode()


def test_every_key_is_shown() -> None:
    shown = set(re.findall(r"^(?:; )?(\w+) = ", "\n".join(CONFIGURATIONS), re.MULTILINE))
    known = set[str]().union(*(keys for keys in parsing._KNOWN.values() if keys is not None))
    assert known - shown == set()


async def test_a_program_fetches_a_page_through_a_server(tmp_path: Path) -> None:
    settings = config.parse(PRIVATE.format(bootstrap="none"), "server.ini")
    async with Site() as site, Server(settings, StateFolder(tmp_path / "server")) as server:
        node = node_of(server)
        file = tmp_path / "client.ini"
        file.write_text(f"{PRIVATE.format(bootstrap=node)}[socks]\nbrowser = 0:{server.node.tox_id}\n")
        url = "http://{}:{}/object/1".format(*site.address)
        status, out, err = await library(file, tmp_path / "client", url)
    assert (status, err) == (0, "")
    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == site.content["/object/1"]


async def test_the_example_reports_a_bad_configuration_in_one_line(tmp_path: Path) -> None:
    status, out, err = await library(tmp_path / "missing.ini", tmp_path / "client", "http://127.0.0.1/")
    assert (status, out) == (1, b"")
    assert re.fullmatch(r"toxproxy does not start: .*missing\.ini: expected a readable file, .*\n", err)
