"""The words of an invitation: six of a list of 2048, so 66 bits, and as people type them.

The list is the English one of BIP-39: english.txt, from the package `mnemonic` 0.21, under the MIT licence
in english.LICENSE. No two of its words begin with the same four letters.
"""

from __future__ import annotations

import re
import secrets
from difflib import get_close_matches
from functools import cache
from importlib import resources

from toxproxy.address import shown

COUNT = 6

LINK = "toxproxy://join/"

_MOST_TEXT = 200  # characters: six words of at most eight letters, and the link before them
_BETWEEN = re.compile(r"[\s,-]+")

Words = tuple[str, ...]


@cache
def word_list() -> Words:
    """All 2048 words, in the order of their numbers."""
    return tuple(resources.files(__package__).joinpath("english.txt").read_text("ascii").split())


def new_words() -> Words:
    """Words for a new invitation, chosen by the system's random number generator."""
    return tuple(secrets.choice(word_list()) for _ in range(COUNT))


def numbered(raw: bytes) -> Words:
    """The words that stand for some bits: one for each two bytes, of which 11 bits count."""
    words = word_list()
    pairs = zip(raw[::2], raw[1::2], strict=True)
    return tuple(words[(high << 8 | low) % len(words)] for high, low in pairs)


def link(words: Words) -> str:
    """The words as a link, for a QR code."""
    return LINK + "-".join(words)


def parse_words(text: str) -> Words:
    """Six words, or the link with them, in any case. Spaces, commas or hyphens may divide the words.

    Raises `ValueError`, which names each word that is not in the list with the most similar ones. It
    does not repeat the others.
    """
    if len(text) > _MOST_TEXT:
        raise ValueError(f"expected {COUNT} words, found {len(text)} characters")
    text = text.strip().lower().removeprefix(LINK).rstrip("/")
    words = tuple(word for word in _BETWEEN.split(text) if word)
    unknown = [word for word in words if word not in word_list()]
    if unknown:
        raise ValueError("expected words of the list, found " + "; ".join(map(_suggestion, unknown[:COUNT])))
    if len(words) != COUNT:
        raise ValueError(f"expected {COUNT} words, found {len(words)}")
    return words


def _suggestion(word: str) -> str:
    known = word_list()
    nearest = get_close_matches(word, known, n=3) or get_close_matches(word, known, n=1, cutoff=0)
    return f"{shown(word)}: did you mean {' or '.join(nearest)}?" if nearest else shown(word)
