"""Where two machines meet: two throw-away Tox identities, which both derive from the first words.

The keys of a Tox node can be seen in the network. Whoever sees them can try words until the same keys
come out, as long as he likes. So only the first words are used here, and each try costs a slow hash.
The other words are compared by `exchange`, which allows one guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from toxproxy.errors import ToxproxyError
from toxproxy.pairing.words import Words

WORDS = 4  # of the six: 44 bits

# Argon2id (RFC 9106), version 1.3. It has no salt: the two ends share nothing but the words. The memory
# is what a small machine can spare.
_MEMORY_KIB = 128 * 1024
_PASSES = 8
_LANES = 1
_CONTEXT = b"toxproxy pairing 1"


@dataclass(frozen=True, slots=True)
class Place:
    """The two throw-away identities. Each end knows both secret keys, 32 bytes, and uses one."""

    inviter_secret: bytes = field(repr=False)
    joiner_secret: bytes = field(repr=False)
    inviter_key: bytes
    joiner_key: bytes


def derive(words: Words) -> Place:
    """The place for an invitation. Takes 128 MiB and about a second of one core.

    Raises `ToxproxyError` if there is not enough memory.
    """
    hashed = Argon2id(salt=_CONTEXT, length=64, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
    try:
        derived = hashed.derive(" ".join(words[:WORDS]).encode())
    except MemoryError:
        raise ToxproxyError(f"expected {_MEMORY_KIB // 1024} MiB of free memory, found less") from None
    inviter, joiner = derived[:32], derived[32:]
    return Place(inviter, joiner, _public(inviter), _public(joiner))


def _public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
