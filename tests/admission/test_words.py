"""The words that stand for a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.admission.words import words

keys = st.binary(min_size=32, max_size=32)


def test_the_words_of_a_key_never_change() -> None:
    assert words(bytes(32)) == "print myself syrup narrow under pear"
    assert words(b"\xff" * 32) == "exhaust crack record vapor toddler frozen"


@given(keys)
def test_they_are_six_plain_ones(key: bytes) -> None:
    parts = words(key).split(" ")
    assert len(parts) == 6
    assert all(part.isascii() and part.islower() and 3 <= len(part) <= 8 for part in parts)


@given(keys, st.integers(0, 255))
def test_another_bit_anywhere_gives_other_words(key: bytes, bit: int) -> None:
    other = int.from_bytes(key) ^ (1 << bit)
    assert words(other.to_bytes(32)) != words(key)
