"""Response heads as servers send them, cleaned for h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.http.response_head import clean_head, clean_trailer

OK = b"HTTP/1.1 200 OK\r\n"

MENDED = {
    "white space before a colon": (b"X-A : 1\r\nX-B\t:2\r\n", b"X-A: 1\r\nX-B: 2\r\n"),
    "white space before the colon of the length": (b"Content-Length : 5\r\n", b"Content-Length: 5\r\n"),
    "a line without a colon": (b"4177d0f6529d972bb3f5\r\nA: 1\r\n", b"A: 1\r\n"),
    "a sentence with a colon": (b"Secured by Excellent Serv :\r\nA: 1\r\n", b"A: 1\r\n"),
    "a shell's complaint": (
        b"sh:can't create dev/null: nothing\r\n",
        b"sh: can't create dev/null: nothing\r\n",
    ),
    "a line without a name": (b": 1\r\nA: 1\r\n", b"A: 1\r\n"),
    "a name that is no token": (b"X(A): 1\r\nA: 1\r\n", b"A: 1\r\n"),
    "control characters in a value": (b"A: a\x0bb\x0cc\x00d\re\r\n", b"A: a b c d e\r\n"),
    "other control characters, which h11 takes": (b"A: a\x01b\x7f\r\n", b"A: a\x01b\x7f\r\n"),
    "a folded line": (b"A: 1\r\n  2\r\n\t3\r\nB: 4\r\n", b"A: 1 2 3\r\nB: 4\r\n"),
    "what is folded behind a line that is dropped": (b"nonsense\r\n more\r\nA: 1\r\n", b"A: 1\r\n"),
    "what is folded before the first field": (b" X: 1\r\nA: 1\r\n", b"A: 1\r\n"),
    "bare line feeds": (b"A: 1\nB: 2\n", b"A: 1\r\nB: 2\r\n"),
    "the identity coding": (b"Transfer-Encoding: identity\r\nA: 1\r\n", b"A: 1\r\n"),
    "the identity coding and another": (
        b"transfer-encoding: Identity, chunked\r\n",
        b"transfer-encoding: chunked\r\n",
    ),
    "a name in its own spelling": (b'eTaG: "x"\r\n', b'eTaG: "x"\r\n'),
    "nothing at all": (b"", b""),
}


@pytest.mark.parametrize(("sent", "cleaned"), MENDED.values(), ids=MENDED)
def test_a_field_is_corrected_or_dropped(sent, cleaned):
    assert clean_head(OK + sent + b"\r\n") == OK + cleaned + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "cleaned"),
    [
        (b"HTTP/1.1 200", b"HTTP/1.1 200 "),
        (b"HTTP/1.1  404  Not\x0b Found ", b"HTTP/1.1 404 Not  Found"),
        (b"HTTP/1.0 200 Gut\xe9", b"HTTP/1.0 200 Gut\xe9"),
        (b"ICY 200 OK", b"HTTP/1.0 200 OK"),
        (b"SSH-2.0-OpenSSH_9.2", b"SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1 2000 OK", b"HTTP/1.1 2000 OK"),
    ],
)
def test_a_status_line_is_corrected_or_left(sent, cleaned):
    assert clean_head(sent + b"\r\n\r\n") == cleaned + b"\r\n\r\n"


def read(head: bytes) -> h11.Response | h11.InformationalResponse | None:
    """The response that h11 parses from a head. None if it refuses it."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    http.send(h11.EndOfMessage())
    http.receive_data(head)
    try:
        event = http.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Response | h11.InformationalResponse) else None


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length 5\r\n",
        b"Content-Length\x0b: 5\r\n",
        b"\rContent-Length: 5\r\n",
        b"X Content-Length: 5\r\n",
        b"Transfer-Encoding\x00: chunked\r\n",
        b"Transfer-Encoding chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chunked\x0b\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity;q=1\r\n",
        b"Content-Length: 5\x0b\r\n",
        b"Content-Length: 5\r6\r\n",
        b"Content-Length: 5\r\n 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length : 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -1\r\n",
    ],
)
def test_what_may_tell_the_length_and_is_wrong_is_never_guessed_at(fields):
    assert read(clean_head(OK + fields + b"\r\n")) is None


def test_a_successful_answer_to_connect_has_no_body():
    fields = b"Transfer-Encoding: identity\r\nContent-Length: x\r\nContent-Length 1\r\nVia: 1.1 a\r\n"
    assert clean_head(OK + fields + b"\r\n", connect=True) == OK + b"Via: 1.1 a\r\n\r\n"
    refused = b"HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\n"
    assert clean_head(refused, connect=True) == refused


def test_a_trailer_is_corrected_and_loses_its_framing_fields():
    sent = b"X-Sum : 3\r\nnonsense\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nY: a\x0bb\r\n\r\n"
    assert clean_trailer(sent) == b"X-Sum: 3\r\nY: a b\r\n\r\n"


LINES = st.binary(max_size=40) | st.sampled_from(
    b"HTTP/1.1 200 OK|Content-Length: 5|Transfer-Encoding: chunked|Content-Length : 6".split(b"|")
    + b"Transfer-Encoding: identity| folded|\tContent-Length: 7|nonsense|A:1|\r|".split(b"|")
)
HEADS = st.lists(LINES, max_size=8).flatmap(
    lambda lines: st.sampled_from([b"\n", b"\r\n"]).map(lambda end: end.join([OK[:-2], *lines, b"", b""]))
)


@given(head=HEADS | st.binary(max_size=300))
def test_cleaning_twice_changes_no_more_than_cleaning_once(head):
    cleaned = clean_head(head)
    assert clean_head(cleaned) == cleaned
    assert cleaned.endswith(b"\r\n\r\n")
    assert cleaned.find(b"\n\r\n") == len(cleaned) - 3, "the head ends too early"
    clean_trailer(head)


@given(head=HEADS)
def test_a_head_that_h11_takes_as_it_is_is_framed_the_same_when_cleaned(head):
    before = read(head)
    if before is None:
        return
    after = read(clean_head(head))
    assert after is not None
    assert after.status_code == before.status_code

    def framing(event):
        wanted = (b"content-length", b"transfer-encoding")
        return [field for field in event.headers if field[0] in wanted]

    assert framing(after) == framing(before)
