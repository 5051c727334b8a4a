"""Set-ups that are broken in one way each: `toxproxy doctor` names it in its first line, with the remedy."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.app.test_control_plane import Done, Ends, command, running
from tests.isolated import needs_namespaces, resolving_with
from tests.joined import node_of
from tests.machine import pseudo_terminal
from tests.ports import unused_port
from toxproxy import config
from toxproxy.admission.words import words
from toxproxy.app.client import Client
from toxproxy.demo.network import Place, Process
from toxproxy.outbound import service
from toxproxy.system.state import StateFolder

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "1" * 62 + "11"
PATIENCE = 60
MOST_SECONDS = 20.0


async def doctor(*arguments: object) -> Done:
    began = time.monotonic()
    done = await command("doctor", *arguments)
    assert "Traceback" not in done.err
    assert time.monotonic() - began < MOST_SECONDS + 5  # with the start of the interpreter, on a busy machine
    return done


def first(done: Done) -> str:
    return done.out.splitlines()[0]


def line(done: Done, label: str) -> str:
    """The line of a check."""
    (found,) = (each for each in done.out.splitlines() if re.match(rf"  \S+ +{label} ", each))
    return " ".join(found.split())


def written(folder: Path, text: str) -> Path:
    path = folder / "cfg.ini"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def alone(node: str = "none", more: str = "") -> str:
    return f"[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 24000-24999\n{more}"


# Nothing runs


async def test_a_wrong_configuration_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "[client]\nssh = 2222:127.0.0.1:nonsense:TOXID\n")
    done = await doctor(path, "--state", tmp_path / "state")
    assert done.status == 1
    assert first(done).startswith(f"The configuration is wrong: {path}:2: ")
    assert not (tmp_path / "state").exists()


async def test_a_port_that_is_taken_is_named_with_its_line_and_how_to_find_who_has_it(tmp_path: Path) -> None:
    tox_id = "".join((await command("id", "server", "--state", tmp_path / "there")).out.split())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = written(tmp_path, f"[socks]\nbrowser = {port}:{tox_id}\n{alone()}")
        done = await doctor(path, "--state", tmp_path / "state")
    assert done.status == 1
    assert first(done).startswith(
        f"Port 127.0.0.1:{port} (browser) is taken by another program: write another"
    )
    assert "ss -ltnp" in first(done)
    again = await doctor(path, "--state", tmp_path / "state")
    assert again.status == 0
    assert first(again).startswith("Nothing wrong is found here. Start toxproxy and ask again")
    assert not (tmp_path / "state").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
@pytest.mark.parametrize("file", [False, True])
async def test_a_state_of_another_user_is_named_and_left_alone(tmp_path: Path, file: bool) -> None:
    state = tmp_path / "state"
    await command("id", "client", "--state", state)
    foreign = state / "identity.tox" if file else state
    os.chown(foreign, 12345, -1)
    done = await doctor(written(tmp_path, alone()), "--state", state)
    assert done.status == 1
    assert first(done).startswith(f"{foreign} belongs to another user: run as that user, or chown it")
    assert foreign.stat().st_uid == 12345


async def test_an_open_state_folder_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await command("id", "client", "--state", state)
    state.chmod(0o755)
    done = await doctor(written(tmp_path, alone()), "--state", state)
    assert (done.status, first(done)) == (1, f"Other users may look into {state}: chmod 700 {state}")


async def test_nodes_that_cannot_be_reached_are_named(tmp_path: Path) -> None:
    node = f"127.0.0.1:{unused_port()}"
    path = written(tmp_path, alone(f"{node}:{KEY}"))
    near, far = pseudo_terminal()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", "doctor", path, "--state", tmp_path / "state",
        stdout=asyncio.subprocess.PIPE, stderr=far, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(far)
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    done = Done(process.returncode, out.decode(), "")
    progress = os.read(near, 100_000).decode()
    os.close(near)
    assert "looking for the Tox network ... 3 s" in progress
    assert done.status == 1
    assert first(done).startswith(f"No node of the Tox network is reached ({node}): see that this machine is")


async def test_without_a_running_end_a_throw_away_node_finds_the_network(tmp_path: Path) -> None:
    server = Process("server", tmp_path)
    try:
        await server.start(alone(more="[access]\nallow = *\n"))
        node = f"127.0.0.1:{server.ready['udp_port']}:{server.ready['dht_key']}"
        path = written(tmp_path, alone(node))
        done = await doctor(path, "--state", tmp_path / "state")
    finally:
        await server.stop()
    assert done.status == 0, done.out
    assert line(done, "UDP").startswith("ok UDP")
    assert line(done, "other end") == "- other end not tried: no toxproxy runs here with this state"
    assert not (tmp_path / "state").exists()


# Something runs


@asynccontextmanager
async def client_of(ends: Ends, name: str, text: str) -> AsyncIterator[Path]:
    """Another client of the server; yields its state folder."""
    node = node_of(ends.server)
    text = text.replace("TOXID", str(ends.server.node.tox_id)) + alone(node)
    folder = ends.folder / name
    async with Client(config.parse(text, "client"), StateFolder(folder)) as client:
        async with asyncio.timeout(PATIENCE):
            while client.status().network.path.value == "none":
                await asyncio.sleep(0.05)
        yield folder


async def connected(state: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            done = await command("status", "--json", "--state", state)
            if json.loads(done.out)["peers"][0]["state"] == "connected":
                return
            await asyncio.sleep(0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    """A server that lets in who has its secret, and a client that does not know it yet."""
    async with running(tmp_path_factory.mktemp("guarded"), "secret = correct horse battery\n") as ends:
        yield ends


async def test_a_client_that_was_not_let_in_is_told_so_and_the_command(guarded: Ends) -> None:
    async with client_of(guarded, "stranger", "[client]\nssh = 0:127.0.0.1:22:TOXID\n") as state:
        done = await doctor("--state", state)
        key = guarded.server.node.public_key.hex().upper()[:12]
        assert done.status == 1
        assert first(done).startswith(
            f"Server {key} has never answered this client: if it runs, let the client"
        )
        own = json.loads((await command("status", "--json", "--state", state)).out)["end"]["words"]
        assert first(done).endswith(f"toxproxy allow {own}")
        assert line(done, "targets") == "- targets not tried: there is no connection"
    waits = await doctor("--state", guarded.folder / "server")
    assert waits.status == 0
    assert "to be let in: toxproxy allow" in waits.out


async def test_a_wrong_secret_is_named(guarded: Ends) -> None:
    text = "[client]\nssh = 0:127.0.0.1:22:TOXID\n[access]\nsecret = wrong horse battery\n"
    async with client_of(guarded, "guesser", text) as state:
        done = await doctor("--state", state)
    assert done.status == 1
    assert "does not take this client's secret, or is off: compare [access] secret at both" in first(done)
    assert "wrong horse" not in done.out


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    """A server that permits 127.0.0.1, and a client of it that is connected."""
    async with running(tmp_path_factory.mktemp("ends"), "allow = *\ndeny = 127.0.0.1:9999\n") as ends:
        await ends.connected()
        yield ends


async def test_a_target_that_is_forbidden_is_named_with_the_key_to_change(ends: Ends) -> None:
    async with client_of(ends, "forbidden", "[client]\nweb = 0:127.0.0.1:9999:TOXID\n") as state:
        await connected(state)
        done = await doctor("--state", state)
    assert done.status == 1
    assert first(done) == "The server does not permit 127.0.0.1:9999: add it there to [access] permit"


async def test_a_target_on_which_nothing_listens_is_named_and_those_that_work_are_closed(ends: Ends) -> None:
    done = await doctor("--state", ends.folder / "client")  # its forward `dead` leads to port 1
    assert done.status == 1
    assert first(done).startswith("Nothing listens on 127.0.0.1:1, as the server sees it: start that service")
    assert len(re.findall("targets +127.0.0.1:[0-9]+ is reached", done.out)) == 1
    async with asyncio.timeout(20):
        while ends.client.streams or ends.server.streams:
            await asyncio.sleep(0.05)


async def test_where_everything_works_it_says_so_with_status_0_and_as_json(ends: Ends) -> None:
    async with client_of(ends, "healthy", "[socks]\nbrowser = 0:TOXID\n") as state:
        await connected(state)
        done, told = await doctor("--state", state), await doctor("--state", state, "--json")
    assert done.status == 0, done.out
    assert first(done).startswith("Everything works")
    assert line(done, "clock") == "ok clock within 1 s of the server's"
    assert line(done, "path").endswith(" ms, direct")
    result = json.loads(told.out)
    assert (result["healthy"], result["verdict"]) == (True, None)
    assert {check["kind"] for check in result["checks"]} >= {"library", "state", "ports", "nodes", "udp"}
    server = await doctor("--state", ends.folder / "server")
    assert server.status == 0, server.out


@pytest.mark.parametrize(("seconds", "said"), [(3600, "1 h behind"), (-3600, "ahead of")])
async def test_a_clock_that_is_an_hour_off_is_named(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, seconds: int, said: str
) -> None:
    real = time.time
    async with client_of(ends, f"late{seconds}", "[socks]\nbrowser = 0:TOXID\n") as state:
        await connected(state)
        # The clock that the server tells is another; this process has both ends.
        monkeypatch.setattr(service, "now", lambda: real() + seconds)
        done = await doctor("--state", state)
    assert done.status == 1
    assert first(done).startswith("The clock here is ")
    assert said in first(done)
    assert "set the wrong one (timedatectl set-ntp true)" in first(done)


@needs_namespaces
async def test_a_name_service_that_is_dead_at_the_server_is_named(tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    server = Process("server", tmp_path, Place(resolving_with(resolv)))
    client = Process("client", tmp_path)
    try:
        await server.start(alone(more="[access]\nallow = *\npermit = *:*\n"))
        node = f"127.0.0.1:{server.ready['udp_port']}:{server.ready['dht_key']}"
        forward = f"[client]\nweb = 0:wiki.test:80:{server.ready['tox_id']}\n"
        await client.start(alone(node, more=forward))
        await client.wait_for("ready", PATIENCE)
        done = await doctor("--state", tmp_path / "client.state")
        there = await doctor("--state", tmp_path / "server.state")
    finally:
        await asyncio.gather(client.stop(), server.stop())
    for each in (done, there):
        assert each.status == 1
        assert first(each).startswith(
            "The server's name service does not answer, so names lead nowhere: mend"
        )


# The file for a bug report


async def test_the_bundle_holds_no_key_no_secret_no_name_and_no_id(guarded: Ends) -> None:
    tox_id = str(guarded.server.node.tox_id)
    text = (
        "[client]\nprivately = 0:wiki.example.org:8443:TOXID\n"
        "[socks]\nalso = alice:hunter22hunter@0:TOXID\n[access]\nsecret = a very long pass phrase\n"
    )
    path = written(guarded.folder, text.replace("TOXID", tox_id) + alone(f"127.0.0.1:9:{KEY}"))
    async with client_of(guarded, "reporter", text) as state:
        target = guarded.folder / "bundle.txt"
        done = await doctor(path, "--state", state, "--bundle", target)
        own = json.loads((await command("status", "--json", "--state", state)).out)["end"]
        assert f"{target} is written" in done.out
        again = await doctor(path, "--state", state, "--bundle", target)
        assert (again.status, f"the bundle {target} cannot be written: File exists" in again.err) == (1, True)
    found = target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert "verdict: secret_not_taken" in found
    assert '"role": "client"' in found
    server = guarded.server.node
    hidden = [
        "alice", "hunter22", "a very long", "privately", "also", "wiki.example", "127.0.0.1",
        str(guarded.folder), own["words"], words(server.public_key), socket.gethostname(),
        *(key[:8] for key in (own["tox_id"], own["public_key"], tox_id, KEY)),
    ]  # fmt: skip
    assert [text for text in hidden if text.lower() in found.lower()] == []
    assert re.findall("[0-9A-Fa-f]{16,}", found) == []
