"""The throw-away identities, derived from the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxproxy.address import is_possible_key
from toxproxy.pairing.place import derive
from toxproxy.system.state import StateFolder
from toxproxy.tox.identity import save_key, tox_id

# Computed with two other implementations: argon2-cffi 25.1 (the reference code), and for the public keys
# PyNaCl 1.6 (libsodium). 128 MiB, 8 passes, 1 lane, 64 bytes, salt "toxproxy pairing 1".
VECTORS = {
    "abandon ability able about": (
        "b9e198ffab5c11e0b92c9d87ce10758d8f7e7e451df0286d26840e56b6d1097f",
        "7a08fffe28481a7ddfaa360e84f44f9b1ad1c0386b9f5fe1c5463c93d4ec4c66",
        "ddbd0236bfb38f21d7661b22da2cf08fc8fd91d34a76f57662d2348036c7f704",
        "c80e7fed21ead1beac7daf0c159df5dfa247323c9b5987b5f94ac6528f2af30e",
    ),
    "zoo zone zero zebra": (
        "41081a01fea10a3b5f7bd0372341e2399e495e6f406614f5f3533e82bbb2b727",
        "dd57acc4c02fd3e40fdf13664aff938658fcb2afa3085336ea9da50c3a2a4a25",
        "3fa28544df1fb8150d84f5067a1c179da6ccc900652c5a37a821913b46aaef3b",
        "ba9ed6b84799ec075ccf24a92cb4eb76622b5cf6fa17956b31f7fd8e0562961e",
    ),
}


@pytest.mark.parametrize("words", VECTORS)
def test_the_place_of_known_words(words: str) -> None:
    place = derive((*words.split(), "any", "word"))
    found = (place.inviter_secret, place.joiner_secret, place.inviter_key, place.joiner_key)
    assert tuple(part.hex() for part in found) == VECTORS[words]


def test_the_last_two_words_say_nothing_about_the_place() -> None:
    words = ("abandon", "ability", "able", "about")
    assert derive((*words, "zoo", "zone")) == derive((*words, "able", "zebra"))
    assert derive((*words[:3], "above", "zoo", "zone")) != derive((*words, "zoo", "zone"))


def test_the_secret_keys_are_not_shown() -> None:
    place = derive(("abandon", "ability", "able", "about", "zoo", "zone"))
    assert place.inviter_secret.hex() not in repr(place)
    assert repr(place.inviter_secret) not in repr(place)
    assert repr(place.joiner_secret) not in repr(place)


def test_libtoxcore_has_the_same_public_keys(tmp_path: Path) -> None:
    place = derive(("abandon", "ability", "able", "about", "zoo", "zone"))
    for name, secret, key in (
        ("inviter", place.inviter_secret, place.inviter_key),
        ("joiner", place.joiner_secret, place.joiner_key),
    ):
        state = StateFolder(tmp_path / name)
        save_key(secret, state)
        assert tox_id(state).public_key == key
        assert is_possible_key(key)
