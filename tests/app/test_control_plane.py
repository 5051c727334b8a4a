"""Two ends on loopback that are really connected, and the commands that ask them, as processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.joined import connected, node_of
from tests.machine import pseudo_terminal
from tests.ports import unused_port
from tests.tox.pair import PRIVATE, Diary
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.admission.words import words
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.encoding import decoded
from toxproxy.control.snapshots import PeerState, Snapshot
from toxproxy.demo import PrivateNetwork
from toxproxy.system.state import StateFolder
from toxproxy.tox import library
from toxproxy.tox.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
_TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 24000-24999\nwait = 60\n"


@dataclass
class Done:
    """A command that has ended."""

    status: int | None
    out: str
    err: str


async def command(*arguments: object, stdin: int = asyncio.subprocess.DEVNULL) -> Done:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", *map(str, arguments),
        stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


@dataclass
class Ends:
    """A server and a client in this process."""

    folder: Path
    server: Server
    client: Client

    async def ask(self, role: str, *arguments: object) -> Done:
        """Run a command about one of the two."""
        return await command(*arguments, "--state", self.folder / role)

    async def told(self, role: str, *arguments: object) -> Any:
        """The same, with --json; its first line of output."""
        done = await self.ask(role, *arguments, "--json")
        assert done.status == 0, done.err
        return json.loads(done.out.splitlines()[0])

    def address(self, name: str) -> tuple[str, int]:
        """Where a listener of the client listens."""
        (address,) = (each.address for each in self.client.listening() if each.name == name)
        host, _, port = address.rpartition(":")
        return host, int(port)

    async def connected(self) -> None:
        await connected(self.client)

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection through the client's forward to an echo service."""
        reader, writer = await asyncio.open_connection(*self.address("echo"))
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"hello"
        yield reader, writer
        writer.close()


@asynccontextmanager
async def client_of(server: Server, folder: Path, target: int) -> AsyncIterator[Client]:
    node = node_of(server)
    tox_id = server.node.tox_id
    text = f"[client]\necho = 0:127.0.0.1:{target}:{tox_id}\ndead = 0:127.0.0.1:1:{tox_id}\n"
    text += _TOX.format(node=node)
    async with Client(config.parse(text, "client"), StateFolder(folder)) as client:
        yield client


@asynccontextmanager
async def running(folder: Path, access: str = "") -> AsyncIterator[Ends]:
    """The two ends, with an echo service behind them."""
    text = f"{_TOX.format(node='none')}[server]\nname = home\n[access]\npermit = 127.0.0.1:*\n{access}"
    async with (
        service(echo) as port,
        Server(config.parse(text, "server"), StateFolder(folder / "server")) as server,
        client_of(server, folder / "client", port) as client,
    ):
        yield Ends(folder, server, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    """Two ends that are connected. The server calls the client laptop."""
    async with running(tmp_path_factory.mktemp("ends"), "allow = *\n") as ends:
        await ends.connected()
        done = await ends.ask("server", "allow", ends.client.node.public_key.hex(), "--name", "laptop")
        assert done.status == 0, done.err
        yield ends


# Before a client is let in


@contextmanager
def answering(text: str) -> Iterator[int]:
    """A terminal at which somebody types `text`."""
    near, far = pseudo_terminal()
    try:
        os.write(near, text.encode())
        yield far
    finally:
        os.close(near)
        os.close(far)


async def test_a_client_that_waits_shows_its_words_and_allow_shows_them_and_asks(tmp_path: Path) -> None:
    async with running(tmp_path) as ends, client_of(ends.server, tmp_path / "other", 9) as other:
        async with asyncio.timeout(PATIENCE):
            while len(ends.server.access.waiting) < 2:
                await asyncio.sleep(0.05)
        first, second = (client.node.public_key for client in (ends.client, other))
        shown = await ends.ask("client", "status")
        assert shown.status == 0
        assert shown.out.startswith("Not connected: the server is off, or it has not let this client in.\n")
        assert f"This client's words are:\n\n  {words(first)}\n" in shown.out

        shown = await ends.ask("server", "status")
        assert shown.out.startswith("No client is connected; 2 clients wait to be let in.\n")

        shown = await ends.ask("server", "allow")
        assert shown.status == 1
        assert "2 clients wait to be let in:" in shown.out
        assert "Several wait, and strangers may be among them." in shown.out
        for key in (first, second):
            assert f"{words(key)}  ({key.hex().upper()})" in shown.out
        assert ends.server.access.admitted() == set()

        number = ends.server.access.waiting.index(first) + 1
        with answering(f"{number}\n") as terminal:
            done = await command("allow", "--state", tmp_path / "server", stdin=terminal)
        assert done.status == 0, done.err
        assert f"client {first.hex().upper()[:12]} is allowed; it connects by itself" in done.out

        shown = await ends.ask("server", "allow", "--json")
        assert shown.status == 1
        assert [each["words"] for each in json.loads(shown.out)["waiting"]] == [words(second)]

        for answer, status in (("\n", 1), ("y\n", 0)):
            with answering(answer) as terminal:
                done = await command("allow", "--state", tmp_path / "server", stdin=terminal)
            assert "Let it in only if your client shows the same words" in done.out
            assert done.status == status
        assert ends.server.access.admitted() == {first, second}

        await connected(other)  # a client that has not met its server yet would ask again
        await ends.ask("server", "revoke", words(second))
        done = await ends.ask("server", "allow", *words(first).split())  # as somebody types them
        assert (done.status, done.err) == (0, "")
        assert ends.server.access.admitted() == {first}

        done = await ends.ask("server", "allow")
        assert (done.status, done.out) == (
            1,
            "nobody waits to be let in: is the client running, with this server's Tox ID?\n",
        )


# Connected


async def test_status_says_how_the_two_are_connected(ends: Ends) -> None:
    async with ends.talking():
        client, server = await ends.ask("client", "status"), await ends.ask("server", "status")
    assert client.out.startswith("Connected to the server, direct (")
    assert f"  server home ({ends.server.node.public_key.hex().upper()[:12]}): connected for " in client.out
    assert "1 connection, " in client.out
    assert "  echo: 127.0.0.1:" in client.out
    assert server.out.startswith("1 client is connected.\n")
    assert f"  client laptop ({ends.client.node.public_key.hex().upper()[:12]}): connected for " in server.out
    assert (client.err, server.err) == ("", "")


async def test_a_server_can_be_called_as_it_calls_itself(ends: Ends) -> None:
    assert (await ends.ask("client", "ping", "home", "--count", "1")).status == 0


async def test_a_snapshot_counts_what_went_through(ends: Ends) -> None:
    data = os.urandom(300_000)  # that LZ4 does not shrink
    async with ends.talking() as (reader, writer):
        before = [end.status().peers[0].traffic for end in (ends.client, ends.server)]
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        after = [decoded(Snapshot, await ends.told(role, "status")) for role in ("client", "server")]
        for old, new in zip(before, (snapshot.peers[0].traffic for snapshot in after), strict=True):
            assert new.sent_bytes - old.sent_bytes == new.received_bytes - old.received_bytes == len(data)
            assert new.sent_bytes_per_s is not None
    client = after[0]
    link = client.peers[0].link
    assert link is not None
    assert link.rtt_ms is not None
    assert link.least_rtt_ms is not None
    assert 0 < link.least_rtt_ms <= link.rtt_ms < 1000
    assert link.sent_packets > 100
    assert 0 <= link.lost_packets < link.sent_packets
    assert client.peers[0].streams == 1
    listener, _ = client.listeners
    assert listener.connections == 1
    assert listener.accepted >= 1
    assert client.end.tox_id == str(ends.client.node.tox_id)
    assert client.end.libtoxcore_version == library.version()
    assert client.end.process_id == os.getpid()
    assert client.access is None
    assert after[1].access is not None
    assert after[1].access.anyone
    async with asyncio.timeout(10):
        while ends.client.streams or ends.server.streams:
            await asyncio.sleep(0.05)
    ended = ends.client.status().peers[0].traffic
    assert ended.sent_bytes == client.peers[0].traffic.sent_bytes, "a stream that has ended still counts"


async def test_a_refused_connection_is_counted(ends: Ends) -> None:
    reader, writer = await asyncio.open_connection(*ends.address("dead"))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    _, dead = ends.client.status().listeners
    assert (dead.name, dead.accepted, dead.refused) == ("dead", 1, 1)


async def test_watch_goes_on_until_it_is_interrupted(ends: Ends) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", "status", "--watch", "--json", "--state", ends.folder / "client",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        shots = [decoded(Snapshot, json.loads(await process.stdout.readline())) for _ in range(3)]
        process.send_signal(2)
        assert await process.wait() == 0
    assert shots[0].taken_unix_s < shots[1].taken_unix_s < shots[2].taken_unix_s


async def test_ping_measures_the_round_trip_in_both_directions(ends: Ends) -> None:
    done = await ends.ask("client", "ping", "--count", "2")
    key = ends.server.node.public_key.hex().upper()[:12]
    assert done.status == 0, done.err
    assert [line.split(": ")[0] for line in done.out.splitlines()] == [key, key]
    assert all(line.endswith(" ms, direct") for line in done.out.splitlines())
    pong = await ends.told("server", "ping", "laptop", "--until-direct")
    assert pong["path"] == "direct"
    assert 0 < pong["rtt_ms"] < 1000


async def test_a_connection_is_listed_at_both_ends_and_can_be_closed(ends: Ends) -> None:
    async with ends.talking() as (reader, _):
        for role in ("client", "server"):
            listed = await ends.told(role, "streams")
            assert listed["count"] == 1
            (stream,) = listed["streams"]
            assert (stream["sent_bytes"], stream["received_bytes"], stream["state"]) == (5, 5, "open")
            assert stream["target"].startswith("127.0.0.1:")
        text = (await ends.ask("server", "streams")).out
        assert text.startswith(f"{stream['id']}  {stream['target']}  open for ")
        done = await ends.ask("server", "close", stream["id"])
        assert done.out == f"the connection to {stream['target']} is closed\n"
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE)
    again = await ends.ask("server", "close", stream["id"])
    assert (again.status, again.out) == (1, "")
    assert "no such stream" in again.err
    assert (await ends.ask("client", "streams")).out == "no connections\n"


async def test_clients_says_who_is_there(ends: Ends) -> None:
    done = await ends.ask("server", "clients")
    key = ends.client.node.public_key.hex().upper()
    assert done.out.startswith(f"laptop ({key[:12]}): connected, ")
    assert done.out.endswith(", allowed by command\n")
    (client,) = (await ends.told("server", "clients"))["clients"]
    assert client["key"] == key
    assert client["seen_unix_s"] is not None


async def test_a_question_for_a_server_is_not_one_for_a_client(ends: Ends) -> None:
    done = await ends.ask("client", "clients")
    assert done.status == 1
    known = "checkup, close, connect, ping, reload, route, speedtest, status, streams, watch"
    assert f"unknown method; expected one of {known}" in done.err


async def test_programs_are_told_in_words_of_their_own_what_explains_the_state(ends: Ends) -> None:
    told = await ends.told("server", "status")
    kinds = {each["kind"] for each in told["findings"]}
    assert kinds <= {"library_doubtful"}  # as some versions of libtoxcore are
    assert told["network"]["path"] == "local"


# At the end, since the client is gone then


async def test_a_blocked_client_loses_its_session_at_once_and_its_connections(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with ends.talking() as (reader, _):
        done = await ends.ask("server", "block", "laptop")
        assert done.status == 0, done.err
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while ends.client.peers()[0].state is PeerState.CONNECTED:
            await asyncio.sleep(0.05)
    shown = await ends.ask("client", "status")
    assert shown.out.startswith("Not connected: the server is gone.\n")
    lost = await ends.ask("client", "ping", "--count", "1")
    assert (lost.status, lost.out.endswith(": no answer, offline\n")) == (1, True)
    (client,) = (await ends.told("server", "clients"))["clients"]
    assert client["admission"] == "blocked"
    assert client["seen_unix_s"] is not None
    assert f"client laptop ({client['key'][:12]}) is blocked" in caplog.text
    assert f"session with home ({ends.server.node.public_key.hex().upper()[:12]}) ended" in caplog.text


# Other situations


async def test_a_relayed_path_is_called_one_and_why(tmp_path: Path) -> None:
    port = unused_port()  # without UDP, a node's UDP and TCP port must have the same number
    alone = replace(PRIVATE, ports=(port, port), tcp_relay=port)
    async with Node(alone, StateFolder(tmp_path / "relay"), "relay", Diary()) as relay:
        tox = f"{_TOX.format(node=f'127.0.0.1:{port}:{relay.dht_key.hex()}')}udp = no\n"
        text = f"{tox}[access]\nallow = *\n"
        async with Server(config.parse(text, "server"), tmp_path / "server") as server:
            text = f"{tox}[client]\nssh = 0:127.0.0.1:22:{server.node.tox_id}\n"
            async with Client(config.parse(text, "client"), tmp_path / "client") as client:
                ends = Ends(tmp_path, server, client)
                await ends.connected()
                shown, other = await ends.ask("client", "status"), await ends.ask("server", "status")
                ping = await ends.ask("client", "ping", "--until-direct", "--count", "2")
    assert shown.out.startswith("Connected to the server, through a relay (")
    assert "connected for " in shown.out
    assert "through a relay for " in shown.out
    assert "no UDP" in shown.out
    assert "UDP is off ([tox] udp or proxy), so the path is a relay" in shown.out
    assert other.out.startswith("1 client is connected, through a relay.\n")
    assert (ping.status, len(ping.out.splitlines())) == (1, 2)


async def test_a_server_that_stands_still_is_called_silent_until_it_goes_on(tmp_path: Path) -> None:
    async with PrivateNetwork(tmp_path, client="[socks]\nbrowser = 0:TOXID\n") as network:
        await network.connected(PATIENCE)

        async def becomes(state: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while True:
                    done = await command("status", "--json", "--state", tmp_path / "client.state")
                    if json.loads(done.out)["peers"][0]["state"] == state:
                        return
                    await asyncio.sleep(0.2)

        os.kill(network.server.pid, signal.SIGSTOP)
        try:
            await becomes("silent")
        finally:
            os.kill(network.server.pid, signal.SIGCONT)
        await becomes("connected")
