"""The HTTP reader: a head is judged as a whole, in pieces of any size."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.http.reader import MAX_EMPTY_LINES, MAX_REQUEST_HEAD, MAX_RESPONSE_HEAD, HttpReader
from toxproxy.http.request_head import encode_target


def asking(*, connect: bool = False, method: str = "GET") -> HttpReader:
    """The reader of a client that has sent its request."""
    reader = HttpReader(h11.CLIENT, connect=connect)
    reader.http.send(h11.Request(method=method, target="a:1", headers=[("Host", "a")]))
    reader.http.send(h11.EndOfMessage())
    return reader


def events(reader: HttpReader, data: bytes, step: int = 1 << 20, *, end: bool = False) -> list[object]:
    """The events in `data`, with contents joined. The last one is the status of an error, if there is one."""
    found: list[object] = []
    content = b""
    pieces = [data[at : at + step] for at in range(0, len(data), step)] + [b""] * end
    try:
        for piece in pieces:
            reader.receive(piece)
            while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    content += event.data
                elif isinstance(event, h11.ConnectionClosed):
                    return [*found, content]
                else:
                    found.append(event)
    except h11.RemoteProtocolError as error:
        return [*found, content, error.error_status_hint]
    return [*found, content]


def head_of(size: int, first: bytes) -> bytes:
    """A head of exactly `size` bytes."""
    return first + b"X: " + b"y" * (size - len(first) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1 << 20, 65_536, 30_000, 4_099])
@pytest.mark.parametrize("more", [0, 1])
def test_a_response_head_has_the_same_limit_in_pieces_of_any_size(step, more):
    head = head_of(MAX_RESPONSE_HEAD + more, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
    assert len(head) == MAX_RESPONSE_HEAD + more
    found = events(asking(), head + b"hi", step)
    assert isinstance(found[0], h11.Response) is not more
    assert found[-1] == (431 if more else b"hi")


@pytest.mark.parametrize("step", [1 << 20, 65_536, 30_000, 4_099])
@pytest.mark.parametrize("more", [0, 1])
def test_a_request_head_has_the_same_limit_in_pieces_of_any_size(step, more):
    head = head_of(MAX_REQUEST_HEAD + more, b"GET http://a/ HTTP/1.1\r\nHost: a\r\n")
    found = events(HttpReader(h11.SERVER), head, step)
    assert isinstance(found[0], h11.Request) is not more
    assert found[-1] == (431 if more else b"")


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n" * MAX_EMPTY_LINES, b"\n"])
@pytest.mark.parametrize("step", [1, 1000])
def test_empty_lines_before_a_request_are_ignored(empty, step):
    (request, end, _) = events(HttpReader(h11.SERVER), empty + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", step)
    assert isinstance(request, h11.Request)
    assert isinstance(end, h11.EndOfMessage)


def test_too_many_empty_lines_are_an_error():
    assert events(HttpReader(h11.SERVER), b"\r\n" * (MAX_EMPTY_LINES + 1)) == [b"", 400]


def test_bytes_that_cannot_become_a_head_are_an_error_at_once():
    assert events(HttpReader(h11.SERVER), b"\x16\x03\x01") == [b"", 400]
    assert events(asking(), b"\x00") == [b"", 400]


def test_bytes_after_a_request_are_the_next_request():
    reader = HttpReader(h11.SERVER)
    first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    second = b"\r\nGET /\xfc HTTP/1.1\r\nHost: a\r\n\r\n"
    (request, _, content) = events(reader, first + second)
    assert (request.target, content) == (b"/", b"hi")
    assert reader.rest == second
    reader.http.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    reader.http.send(h11.EndOfMessage())
    assert reader.next_cycle()
    assert reader.next_event().target == b"/%FC"


def test_bytes_after_the_last_chunk_are_trailing_data():
    reader = asking()
    events(reader, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0 ;x\r\n\r\nHTTP/1.1 2")
    assert reader.rest == b"HTTP/1.1 2"


def test_bytes_after_a_chunked_answer_to_a_head_request_are_trailing_data():
    reader = asking(method="HEAD")
    events(reader, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 2")
    assert reader.rest == b"HTTP/1.1 2"


def test_bytes_after_a_switch_of_protocols_are_trailing_data():
    reader = asking(connect=True, method="CONNECT")
    (granted, _) = events(
        reader, b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n220 hi"
    )[1:]
    assert granted.status_code == 200
    assert reader.rest == b"220 hi"


@pytest.mark.parametrize(
    ("head", "encoded"),
    [
        ("GET /?q=ü HTTP/1.1\r\nX: ü\r\n\r\n".encode(), b"GET /?q=%C3%BC HTTP/1.1\r\nX: \xc3\xbc\r\n\r\n"),
        (b"GET http://h/\xfc%20 HTTP/1.1\r\n\r\n", b"GET http://h/%FC%20 HTTP/1.1\r\n\r\n"),
        (b"G\xfcT / HTTP/1.1\r\n\r\n", b"G\xfcT / HTTP/1.1\r\n\r\n"),
        (b"GET / HTTP/1.1\xfc\r\n\r\n", b"GET / HTTP/1.1\xfc\r\n\r\n"),
        (b"GET /\xfc\r\n\r\n", b"GET /\xfc\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nX: \xfc\r\n\r\n", b"GET / HTTP/1.1\r\nX: \xfc\r\n\r\n"),
    ],
)  # fmt: skip
def test_only_the_target_of_a_request_is_percent_encoded(head, encoded):
    assert encode_target(head) == encoded


@given(head=st.binary(max_size=100))
def test_encoding_a_target_changes_no_ascii(head):
    encoded = encode_target(head)
    assert encode_target(encoded) == encoded
    assert encoded.count(b"\n") == head.count(b"\n")
    if head.isascii():
        assert encoded == head


PARTS = st.sampled_from(
    b"\r\n|\n|\r|GET / HTTP/1.1|Host: a|HTTP/1.1 200 OK|Transfer-Encoding: chunked|Content-Length: 2".split(
        b"|"
    )
    + b"5 ;x\r\nhello\r\n|0\r\n\r\n|HTTP/1.1 100 C\r\n\r\n|nonsense".split(b"|")
)


@given(
    parts=st.lists(PARTS | st.binary(max_size=9), max_size=12),
    step=st.integers(1, 30),
    server=st.booleans(),
    end=st.booleans(),
)
def test_arbitrary_bytes_have_the_same_events_in_pieces_of_any_size(parts, step, server, end):
    def read(size: int) -> list[object]:
        return events(HttpReader(h11.SERVER) if server else asking(), b"".join(parts), size, end=end)

    assert read(step) == read(1 << 20)


@given(parts=st.lists(PARTS | st.binary(max_size=9), max_size=12))
def test_a_request_is_parsed_only_if_h11_parses_it_apart_from_its_target(parts):
    data = b"".join(parts)
    alone = h11.Connection(h11.SERVER)
    alone.receive_data(encode_target(data.lstrip(b"\r\n")))
    try:
        event: object = alone.next_event()
    except h11.RemoteProtocolError:
        event = None
    (first, *_) = events(HttpReader(h11.SERVER), data)
    if isinstance(first, h11.Request):
        assert first == event
