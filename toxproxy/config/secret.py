"""Secrets: how they are written in a configuration, and whether they can be guessed.

No error repeats a secret, nor what stands in the place of a key in [secrets]: it may be one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from toxproxy.address import KEY_BYTES, ToxId
from toxproxy.config import ini

MOST_BYTES = 512  # goes into a friend request, which carries 921 (TOX_MAX_FRIEND_REQUEST_LENGTH)
LEAST = 12  # characters
LEAST_DIFFERENT = 6

# Those of README.md and examples/, which everybody can read.
PUBLISHED = frozenset({"a long pass phrase", "another pass phrase", "change this pass phrase"})

_DIGITS = re.compile(r"[0-9A-F]{8,64}")  # enough of a Tox ID to tell it from others


def parse(entry: ini.Entry) -> str:
    """The secret, 1 to 512 bytes of UTF-8. Raises `ConfigError`."""
    entry.whole("a secret")
    return entry.parse(lambda text: ini.parse_text(text, "a secret", MOST_BYTES))


def parse_each(entries: Mapping[str, ini.Entry], servers: Sequence[ToxId]) -> dict[bytes, str]:
    """The secrets of [secrets] by the public key of their server. Raises `ConfigError`."""
    secrets: dict[bytes, str] = {}
    for name, entry in entries.items():
        digits = name.upper()[: 2 * KEY_BYTES]
        meant = [server for server in servers if _DIGITS.fullmatch(digits) and str(server).startswith(digits)]
        if len(meant) != 1:
            expected = "the Tox ID of one server of this file or its first digits, 8 or more"
            found = "those of several" if meant else "something else"
            raise entry.error(f"expected {expected}, before the `=`, found {found}")
        if meant[0].public_key in secrets:
            raise entry.error("expected one secret for each server, found another on a line before")
        secrets[meant[0].public_key] = parse(entry)
    return secrets


def weakness(secret: str) -> str | None:
    """What makes it easy to guess, as the end of a sentence; None for a secret that is not."""
    if secret.lower() in PUBLISHED:
        return "is the one of an example, which everybody knows"
    if len(secret) < LEAST:
        return f"has fewer than {LEAST} characters"
    if len(set(secret)) < LEAST_DIFFERENT:
        return f"has fewer than {LEAST_DIFFERENT} different characters"
    return None
