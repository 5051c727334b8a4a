"""Chunked bodies as servers send them, cleaned for h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.http.chunks import MAX_LINE_BYTES, MAX_TRAILER_BYTES, ChunkFilter

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def filtered(body: bytes, step: int = 1 << 20) -> tuple[bytes, bytes]:
    """The output of the filter, and the bytes that it keeps."""
    chunks = ChunkFilter()
    out = b"".join(chunks.feed(body[at : at + step]) for at in range(0, len(body), step))
    return out, chunks.kept


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("sent", "cleaned"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"5 ; foo=bar\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b'5\t;foo = "a;b"\r\nhello\r\n0 ;x\r\n\r\n', b"5\r\nhello\r\n0\r\n\r\n"),
        (b"0000A  \r\n0123456789\r\n0\r\n\r\n", b"0000A\r\n0123456789\r\n0\r\n\r\n"),
        (b"2\r\n\r\n\r\n0\r\nX : 1\r\nnonsense\r\n\r\n", b"2\r\n\r\n\r\n0\r\nX: 1\r\n\r\n"),
        (b"0\r\n\r\nHTTP/1.1 200 OK\r\n5 ; x\r\n", b"0\r\n\r\nHTTP/1.1 200 OK\r\n5 ; x\r\n"),
    ],
)
def test_a_body_is_cleaned_of_what_h11_cannot_parse(sent, cleaned, step):
    assert filtered(sent, step) == (cleaned, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"5 ;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5 ;\x00\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n\r\n",
        b"123456789012345678901\r\nx",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5" * (MAX_LINE_BYTES + 1),
        b"0\r\n" + b"X: 1\r\n" * (MAX_TRAILER_BYTES // 6 + 1),
    ],
)
def test_an_invalid_body_is_left_unchanged(body):
    assert filtered(body) == (body, b"")


def contents(body: bytes, *, clean: bool) -> tuple[bytes, bool]:
    """The content that h11 reads, and whether it has found the end."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    http.send(h11.EndOfMessage())
    http.receive_data(HEAD + (filtered(body)[0] if clean else body))
    content = b""
    try:
        while (event := http.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return content, True
            content += event.data if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        pass
    return content, False


PIECES = st.sampled_from(
    [b"5\r\nhello\r\n", b"3;a=b\r\nabc\r\n", b"2 ;x\r\n\r\n\r\n", b"0\r\n", b"\r\n", b"X: 1\r\n", b"\n", b"a"]
)


@given(pieces=st.lists(PIECES | st.binary(max_size=9), max_size=8), step=st.integers(1, 20))
def test_cleaning_changes_no_content_in_pieces_of_any_size(pieces, step):
    body = b"".join(pieces)
    out, kept = filtered(body, step)
    assert (out, kept) == filtered(body)
    content, ended = contents(body, clean=False)
    cleaned, cleaned_ended = contents(body, clean=True)
    assert cleaned.startswith(content)
    if ended:
        assert (cleaned, cleaned_ended) == (content, True)


def test_an_unfinished_line_is_kept_up_to_a_limit():
    chunks = ChunkFilter()
    assert chunks.feed(b"5 ;" + b"x" * (MAX_LINE_BYTES - 4)) == b""
    assert len(chunks.kept) == MAX_LINE_BYTES - 1
    assert len(chunks.feed(b"x")) == MAX_LINE_BYTES
    assert chunks.kept == b""
