"""Reads and writes the saved identity of a node, and leaves no copy of it in memory.

The file contains the node's secret key, in the format of libtoxcore, which other Tox programs can
read, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from toxproxy.address import ToxId
from toxproxy.system.state import StateFolder, wiped
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions
from toxproxy.tox.startup import damaged, explained

IDENTITY = "identity.tox"

T = TypeVar("T", bound=Tox)


def open_identity(kind: type[T], options: ToxOptions, state: StateFolder) -> T:
    """A node with the identity in `state`. If there is none, a new one is created and saved.

    Raises `StateError` if the identity cannot be read, used or written, and the errors of `explained`.
    """
    file = state.path / IDENTITY
    with wiped(saved := state.read_private(IDENTITY)):
        options = replace(options, savedata_data=saved)
        try:
            tox = kind(options)
        except ToxError as error:
            raise explained(error, options, file) from None
        try:
            if saved is None:
                save_identity(tox, state)
            elif bytes.fromhex(tox.self_get_public_key()) not in saved:
                # libtoxcore computes the public key from the secret key, and ignores the saved public key.
                raise damaged(file)
        except BaseException:
            tox.kill()
            raise
    return tox


def tox_id(state: StateFolder) -> ToxId:
    """The Tox ID of the identity in `state`. A running node may be using it.

    Makes an identity if there is none. Raises what `open_identity` does.
    """
    if (state.path / IDENTITY).exists():
        return _tox_id(state)
    with state.lock():
        return _tox_id(state)


def _tox_id(state: StateFolder) -> ToxId:
    # Without UDP and without iterating, it binds no port and sends nothing.
    tox = open_identity(Tox, ToxOptions(udp_enabled=False, local_discovery_enabled=False), state)
    try:
        return ToxId(bytes.fromhex(tox.self_get_address()))
    finally:
        tox.kill()


def save_identity(tox: Tox, state: StateFolder) -> None:
    """Save the identity with its friends and known nodes. Raises `StateError`."""
    with wiped(saved := tox.get_savedata_buffer()):
        state.write(IDENTITY, saved)


def save_key(secret: bytes, state: StateFolder) -> None:
    """Make an identity in `state` from a secret key of 32 bytes. Raises `StateError`."""
    options = ToxOptions(
        savedata_data=secret,
        savedata_type=Tox.SAVEDATA_TYPE_SECRET_KEY,
        udp_enabled=False,
        local_discovery_enabled=False,
    )
    tox = Tox(options)  # never iterated: it sends nothing
    try:
        save_identity(tox, state)
    finally:
        tox.kill()
