"""Targets: files that somebody else may have written, and requests on the control socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fuzz import scene
from toxproxy.address import parse_key
from toxproxy.admission.access import Access
from toxproxy.config import advice
from toxproxy.config.parsing import load
from toxproxy.config.settings import AccessSettings
from toxproxy.control.messages import ErrorCode
from toxproxy.control.server import ControlServer, Params
from toxproxy.errors import ConfigError, StateError
from toxproxy.system.state import StateFolder
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions
from toxproxy.tox.startup import explained

_PLACE = re.compile(r"[^\n]*/fuzz\.ini:([0-9]+): (expected |this cannot )[^\n]*")
_ROLES: tuple[advice.Role, ...] = ("server", "client")
_QUESTION = 4096  # bytes: the longest request
_REFUSALS = {ErrorCode.MALFORMED, ErrorCode.VERSION, ErrorCode.UNKNOWN_METHOD, ErrorCode.BAD_PARAMS}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="toxproxy-fuzz-", dir=_MEMORY) as path:
        os.chmod(path, 0o700)
        yield Path(path)


def config(data: bytes) -> None:
    """A file is a configuration whose every property can be read, or one error that names a line of it."""
    with _folder() as folder:
        path = folder / "fuzz.ini"
        path.write_bytes(data)
        try:
            read = load(path)
        except ConfigError as error:
            _check_place(str(error), data.count(b"\n") + 1)
            return
    assert read.secrets.keys() <= {server.public_key for server in read.servers}
    named = [*read.routes.servers, *read.names.values()]
    assert len(read.servers) <= sum(len(each.servers) for each in read.listeners) + len(named)
    assert len({each.key for each in read.clients}) == len(read.clients)
    assert all(each.name.isprintable() for each in read.clients)
    assert not any(character < " " for listener in read.listeners for character in listener.name)
    for role in _ROLES:
        assert all(warning.isprintable() for warning in advice.warnings(read, role))
    str(read)


def _check_place(error: str, lines: int) -> None:
    place = _PLACE.fullmatch(error)
    assert place is not None, f"expected a place and what was expected there, found: {error}"
    assert 1 <= int(place[1]) <= lines
    assert error.isprintable()


def clients(data: bytes) -> None:
    """The file of clients is read, or is an error because it is damaged. It is not changed."""
    settings = AccessSettings(anyone=data[:1] == b"*", secret="a secret")
    with _folder() as folder:
        state = StateFolder(folder)
        (folder / "clients.json").write_bytes(data[1:])
        with suppress(StateError):
            access = Access(settings, state)
            assert all(len(key) == 32 and access.admits(key) for key in access.admitted())
        assert state.read("clients.json") == data[1:]


def identity(data: bytes) -> None:
    """The identity file is taken by libtoxcore, or its refusal is explained."""
    options = ToxOptions(savedata_data=data, udp_enabled=False, local_discovery_enabled=False)
    try:
        tox = Tox(options)  # never iterated: it sends nothing
    except ToxError as error:
        if not isinstance(explained(error, options, "identity"), StateError):
            raise
        return
    try:
        assert len(bytes.fromhex(tox.self_get_address())) == 38
        assert all(len(tox.friend_get_public_key(friend)) == 64 for friend in tox.self_get_friend_list())
    finally:
        tox.kill()


def control(data: bytes) -> None:
    """Every request on the control socket is answered with one line of JSON."""
    scene.run(_ask(data))


async def _ask(data: bytes) -> None:
    async def allow(params: Params) -> object:
        return {"key": parse_key(str(params.get("key", ""))).hex()}

    with _folder() as folder:
        server = ControlServer(folder, {"allow": allow})
        await server.start()
        try:
            reader, writer = await asyncio.open_unix_connection(str(folder / "control"))
            writer.write(data)
            writer.write_eof()
            answer = await _read(reader)
            writer.close()
        finally:
            await server.close()
    if answer or len(data) <= _QUESTION:
        said = json.loads(answer)
        assert answer.endswith(b"\n")
        assert ("result" in said) != ("error" in said)
        assert "result" in said or ErrorCode(said["error"]["code"]) in _REFUSALS


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionError:  # the server closed before it had read everything
        return b""


_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # files that need no disk
