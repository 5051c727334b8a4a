"""Secrets: how a configuration file gives them, and whether they can be guessed.

No error repeats a secret. In [secrets] no error repeats a key either: a secret may have been written in
its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from toxproxy.address import KEY_BYTES, ToxId
from toxproxy.config import ini, scalars

MAX_BYTES = 512  # a friend request, which carries it, has room for 921 (TOX_MAX_FRIEND_REQUEST_LENGTH)
MIN_LENGTH = 12  # characters; a shorter one is weak
MIN_DIFFERENT = 6  # different characters; with fewer it is weak

# The secrets in docs/ and examples/, which everybody can read.
PUBLISHED = frozenset(
    {"a long pass phrase", "another pass phrase", "change this pass phrase", "yet another pass phrase"}
)

_DIGITS = re.compile(r"[0-9A-F]{8,64}")  # enough of a Tox ID to tell it from others


def parse(entry: ini.Entry) -> str:
    """The secret, 1 to 512 bytes of UTF-8. Raises `ConfigError`."""
    entry.whole("a secret")
    return entry.parse(lambda text: scalars.parse_text(text, "a secret", MAX_BYTES))


def parse_each(
    entries: Mapping[str, ini.Entry], servers: Sequence[ToxId], names: Mapping[str, ToxId]
) -> dict[bytes, str]:
    """The values of [secrets], by the public key of the server they are for; `names` are those of [exits].

    Raises `ConfigError`.
    """
    secrets: dict[bytes, str] = {}
    for name, entry in entries.items():
        digits = (str(names[name]) if name in names else name.upper())[: 2 * KEY_BYTES]
        meant = [server for server in servers if _DIGITS.fullmatch(digits) and str(server).startswith(digits)]
        if len(meant) != 1:
            expected = "the Tox ID of one server of this file or its first digits, 8 or more"
            found = "digits of several" if meant else "something else"
            raise entry.error(f"expected {expected}, before the `=`, found {found}")
        if meant[0].public_key in secrets:
            raise entry.error("expected one secret for each server, found a second one")
        secrets[meant[0].public_key] = parse(entry)
    return secrets


def weakness(secret: str) -> str | None:
    """Why `secret` is easy to guess, as the end of a sentence; None if it is not."""
    if secret.lower() in PUBLISHED:
        return "is the one of an example, which everybody knows"
    if len(secret) < MIN_LENGTH:
        return f"has fewer than {MIN_LENGTH} characters"
    if len(set(secret)) < MIN_DIFFERENT:
        return f"has fewer than {MIN_DIFFERENT} different characters"
    return None
