"""The saved identity of a node: read, opened and written without a copy that stays in memory.

The file holds the node's secret key, in libtoxcore's own format: other Tox programs can read it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from toxproxy.system.state import StateFolder, wiped
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions
from toxproxy.tox.startup import damaged, explained

IDENTITY = "identity.tox"

T = TypeVar("T", bound=Tox)


def open_identity(kind: type[T], options: ToxOptions, state: StateFolder) -> T:
    """A node with the identity in `state`, which is made and written down if there is none.

    Raises `StateError` for one that cannot be read, used or written, and what `explained` says.
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
                # libtoxcore makes the public key from the secret one and does not look at the saved one.
                raise damaged(file)
        except BaseException:
            tox.kill()
            raise
    return tox


def save_identity(tox: Tox, state: StateFolder) -> None:
    """Write down the identity with friends and known nodes. Raises `StateError`."""
    with wiped(saved := tox.get_savedata_buffer()):
        state.write(IDENTITY, saved)
