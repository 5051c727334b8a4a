"""Six words that stand for a key, for people to compare."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

_WORDS = 6  # of 2048: 66 bits, more than anybody can search keys for
_BITS = 11
_DOMAIN = b"toxproxy words\0"


def words(key: bytes) -> str:
    """The words of a public key, such as "acid tower quick …". Two keys hardly ever have the same."""
    number = int.from_bytes(hashlib.sha256(_DOMAIN + key).digest())
    chosen = (number >> (256 - _BITS * (place + 1)) & ((1 << _BITS) - 1) for place in range(_WORDS))
    return " ".join(_list()[each] for each in chosen)


@cache
def _list() -> list[str]:
    """The English list of BIP 39: no two words begin with the same four letters."""
    return resources.files("toxproxy.pairing").joinpath("english.txt").read_text("ascii").split()
