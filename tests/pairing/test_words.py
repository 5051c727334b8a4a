"""The words of an invitation, as they are made and as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.pairing.words import COUNT, LINK, link, new_words, numbered, parse_words, word_list

SIX = ("abandon", "zoo", "candy", "orbit", "skin", "hello")


def test_the_list_has_2048_words_that_differ_in_their_first_four_letters() -> None:
    words = word_list()
    assert len(words) == 2048
    assert len({word[:4] for word in words}) == 2048
    assert list(words) == sorted(words)
    assert all(word.isalpha() and word.islower() and 3 <= len(word) <= 8 for word in words)


def test_new_words_are_six_of_the_list_and_others_each_time() -> None:
    made = {new_words() for _ in range(50)}
    assert len(made) == 50
    assert all(len(words) == COUNT and set(words) <= set(word_list()) for words in made)
    assert len({word for words in made for word in words}) > 200


@pytest.mark.parametrize(
    "text",
    [
        "abandon zoo candy orbit skin hello",
        "  Abandon ZOO\tcandy  orbit\nskin hello ",
        "abandon, zoo, candy, orbit, skin, hello",
        "abandon-zoo-candy-orbit-skin-hello",
        "toxproxy://join/abandon-zoo-candy-orbit-skin-hello",
        "TOXPROXY://JOIN/ABANDON-ZOO-CANDY-ORBIT-SKIN-HELLO/",
    ],
)
def test_words_are_taken_however_they_are_written(text: str) -> None:
    assert parse_words(text) == SIX


@given(st.lists(st.sampled_from(word_list()), min_size=COUNT, max_size=COUNT))
def test_a_link_is_read_as_the_words_that_it_was_made_of(words: list[str]) -> None:
    assert parse_words(link(tuple(words))) == tuple(words)
    assert parse_words(" ".join(words)) == tuple(words)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected 6 words, found 0"),
        ("abandon zoo candy orbit skin", "expected 6 words, found 5"),
        ("abandon zoo candy orbit skin hello zoo", "expected 6 words, found 7"),
        (LINK, "expected 6 words, found 0"),
        (
            "abandn zoo candy orbit skin hello",
            "expected words of the list, found 'abandn': did you mean abandon",
        ),
        ("abandon zoo cndy orbit skin helo", "'cndy': did you mean candy"),
        ("abandon zoo cndy orbit skin helo", "'helo': did you mean hello"),
        ("a" * 201, "expected 6 words, found 201 characters"),
        ("abandon zoo candy orbit skin ünser", "'ünser': did you mean "),
        ("https://example.org/ zoo candy orbit skin hello", "'https://example.org/'"),
    ],
)
def test_what_is_wrong_is_named_with_the_most_similar_words(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_words(text)
    assert complaint in str(caught.value)


def test_an_error_does_not_repeat_the_words_that_are_right() -> None:
    with pytest.raises(ValueError, match="cndy") as caught:
        parse_words("abandon zoo cndy orbit skin hello")
    assert not any(word in str(caught.value) for word in ("abandon", "zoo", "orbit", "skin", "hello"))


@given(st.text(max_size=250))
def test_any_text_is_six_words_or_an_error_of_one_short_line(text: str) -> None:
    try:
        words = parse_words(text)
    except ValueError as error:
        complaint = str(error)
    else:
        complaint = ""
        assert set(words) <= set(word_list())
    assert complaint.isprintable()
    assert len(complaint) < 10_000


@given(st.binary(min_size=4, max_size=4))
def test_check_words_take_11_bits_of_each_two_bytes(raw: bytes) -> None:
    words = word_list()
    assert [words.index(word) for word in numbered(raw)] == [
        int.from_bytes(raw[:2]) % 2048,
        int.from_bytes(raw[2:]) % 2048,
    ]
