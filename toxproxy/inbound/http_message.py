"""HTTP/1.1 messages that a proxy forwards (RFC 9110, RFC 9112), and the answers that it gives itself.

Pure functions over h11's events. A request to a proxy has its target in absolute form, or is a CONNECT.
Any other request was meant for a web server, and is refused.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import h11

from toxproxy.address import Target, parse_host, parse_port, parse_target, shown, split_fields
from toxproxy.errors import StreamRefused, ToxproxyError
from toxproxy.inbound.answers import ANSWERS
from toxproxy.inbound.handshake import Credentials

Headers = list[tuple[bytes, bytes]]
Message = h11.Request | h11.InformationalResponse | h11.Response

RETRY_SECONDS = 5

_DEFAULT_PORT = 80
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?")
_NOT_ASCII = re.compile(rb"(?:%[89A-Fa-f][0-9A-Fa-f])+")
# The fields of RFC 9110, section 7.6.1, those that are for this proxy alone (section 11.7), and the
# settings of an upgrade to HTTP/2 (RFC 7540, section 3.2.1), which this proxy does not speak.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"}
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# Fields that must not be in a trailer (RFC 9110, section 6.5.1): framing, routing, authentication,
# content format.
_NOT_IN_TRAILER = (
    _HOP_BY_HOP
    | _FRAMING
    | {b"host", b"trailer", b"expect", b"max-forwards", b"authorization", b"www-authenticate"}
    | {b"cookie", b"set-cookie", b"content-encoding", b"content-type", b"content-range"}
)
# Fields that the answer to a TRACE does not repeat (RFC 9110, section 9.3.8).
_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the proxy itself: a status, a text for people, and more headers.

    `echo`: the request that a TRACE sends back, in place of the text.
    """

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    echo: bytes | None = None

    @property
    def content(self) -> tuple[bytes, bytes]:
        """The body and its media type."""
        if self.echo is not None:
            return self.echo, b"message/http"
        return f"toxproxy: {self.text}\n".encode(), b"text/plain; charset=utf-8"


class RequestError(ToxproxyError):
    """The request cannot be forwarded; `reply` says why."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(text)
        self.reply = Reply(status, text, headers)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes. `host`: the value of its Host header. `path`: its target in origin form."""

    target: Target
    host: bytes
    path: bytes


def destination(request: h11.Request) -> Destination:
    """The target of a request: in authority form for CONNECT, else in absolute form (RFC 9112, section 3.2).

    A host name in another script may be UTF-8, or percent-encoded UTF-8 (RFC 3986, section 3.2.2).
    Raises `RequestError`.
    """
    if request.method == b"CONNECT":
        try:
            target = parse_target(_decoded(request.target))
            return Destination(target, request.target, request.target)
        except ValueError as error:
            raise RequestError(400, f"CONNECT needs a host and a port: {error}.") from error
    if (match := _ABSOLUTE.fullmatch(request.target)) is None:
        raise RequestError(
            400, "This is a proxy, not a web server. Enter this address in the browser's proxy settings."
        )
    scheme, authority, path = match.groups()
    if scheme.lower() != b"http":
        raise RequestError(501, f"This proxy does not speak {scheme.decode()}. Use CONNECT, or SOCKS5.")
    host = authority.rpartition(b"@")[2]
    if not path.startswith(b"/"):
        server_wide = request.method == b"OPTIONS" and not path
        path = b"*" if server_wide else b"/" + path
    try:
        written = _decoded(host)
        name, *port = split_fields(written)
        number = parse_port(port[0]) if port and port[0] else _DEFAULT_PORT
        if len(port) > 1:
            raise ValueError(f"expected host:port, found {shown(written)}")
        target = Target(parse_host(name), number)
    except ValueError as error:
        raise RequestError(400, f"The request's address cannot be used: {error}.") from error
    if not written.isascii():
        host = ":".join([target.host, *port]).encode()
    return Destination(target, host, path)


def _decoded(authority: bytes) -> str:
    """The authority with its percent-encoded non-ASCII characters decoded. Raises `ValueError`."""
    return _NOT_ASCII.sub(lambda found: unquote_to_bytes(found[0]), authority).decode()


def offers_login(request: h11.Request) -> bool:
    """Whether the request carries a login, right or wrong."""
    return any(name == b"proxy-authorization" for name, _ in request.headers)


def authorized(request: h11.Request, credentials: Credentials) -> bool:
    """Whether the request carries the right user name and password (Basic, RFC 7617)."""
    for name, value in request.headers:
        if name == b"proxy-authorization":
            # RFC 9110 allows spaces only; some clients send a tab.
            scheme, *token = value.split(maxsplit=1) or [b""]
            try:
                username, colon, password = b64decode(b"".join(token), validate=True).partition(b":")
            except binascii.Error:
                return False
            return scheme.lower() == b"basic" and bool(colon) and credentials.match(username, password)
    return False


def login_needed() -> Reply:
    """The answer to a request without the right user name and password."""
    return Reply(
        407,
        "This proxy needs a user name and a password.",
        ((b"Proxy-Authenticate", b'Basic realm="toxproxy", charset="UTF-8"'),),
    )


def refused(target: Target, refusal: StreamRefused) -> Reply:
    """The answer to a request whose target could not be reached."""
    answer = ANSWERS[refusal.code]
    headers = [(b"Proxy-Status", b"toxproxy; error=" + answer.error.encode())]
    if answer.status == 503:
        headers.append((b"Retry-After", b"%d" % RETRY_SECONDS))
    text = f"{target} could not be reached: {refusal.text}.\n{answer.advice}"
    return Reply(answer.status, text, tuple(headers))


def incomplete_answer(target: Target, why: str) -> Reply:
    """The answer to a request whose server sent no valid response."""
    text = f"{target} was reached but did not answer properly: {why}."
    return Reply(502, text, ((b"Proxy-Status", b"toxproxy; error=http_protocol_error"),))


def too_many_guesses(seconds: int) -> Reply:
    """The answer to a login that is not checked, after wrong passwords from the same address."""
    text = "Somebody at your address sent wrong passwords. Try again in a moment."
    return Reply(429, text, ((b"Retry-After", b"%d" % seconds),))


def final_recipient(request: h11.Request) -> Reply | None:
    """The answer to an OPTIONS or a TRACE with `Max-Forwards: 0` (RFC 9110, section 7.6.2), else None."""
    if _forwards_left(request) != 0:
        return None
    if request.method == b"OPTIONS":
        return Reply(200, "A proxy for HTTP/1.1, with CONNECT.")
    lines = [b"%s %s HTTP/%s" % (request.method, request.target, request.http_version)]
    for name, value in request.headers.raw_items():
        if name.lower() not in _SECRET:
            lines.append(name + b": " + value)
    return Reply(200, "", echo=b"\r\n".join([*lines, b"", b""]))


def _forwards_left(request: h11.Request) -> int | None:
    """The Max-Forwards of an OPTIONS or a TRACE. None without one, and for other methods."""
    if request.method in (b"OPTIONS", b"TRACE"):
        for name, value in request.headers:
            if name == b"max-forwards" and re.fullmatch(rb"[0-9]{1,9}", value):
                return int(value)
    return None


def framed_twice(message: h11.Request | h11.Response) -> bool:
    """Whether the message has both Content-Length and Transfer-Encoding.

    That may be an attempt at request smuggling, so the connection has to end after this exchange (RFC
    9112, sections 6.1 and 6.3).
    """
    return {name for name, _ in message.headers} >= _FRAMING


def has_body(request: h11.Request) -> bool:
    """Whether the request's headers announce a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value))
        for name, value in request.headers
    )


def outgoing_request(request: h11.Request, to: Destination) -> h11.Request:
    """The request for the origin server. HTTP/1.0's Upgrade is ignored (RFC 9110, section 7.8)."""
    headers = _end_to_end(request, upgrade=request.http_version >= b"1.1")
    headers = [(b"Host", to.host), *(field for field in headers if field[0].lower() != b"host")]
    if left := _forwards_left(request):
        fewer = b"%d" % (left - 1)
        headers = [(name, fewer if name.lower() == b"max-forwards" else value) for name, value in headers]
    return h11.Request(method=request.method, target=to.path, headers=headers)


def outgoing_response(response: h11.Response, *, last: bool = False) -> h11.Response:
    """The final response for the client. `last`: the connection ends with it."""
    headers = _end_to_end(response, upgrade=response.status_code == 426)
    if last:
        headers.append((b"Connection", b"close"))
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)


def outgoing_information(response: h11.InformationalResponse) -> h11.InformationalResponse:
    """An informational response (1xx) for the client. A 101 keeps its Upgrade fields."""
    headers = _end_to_end(response, upgrade=response.status_code == 101)
    return h11.InformationalResponse(
        status_code=response.status_code, reason=response.reason, headers=headers
    )


def outgoing_end(end: h11.EndOfMessage) -> h11.EndOfMessage:
    """The end of a message, without the fields that must not be in a trailer."""
    kept = [field for field in end.headers.raw_items() if field[0].lower() not in _NOT_IN_TRAILER]
    return h11.EndOfMessage(headers=kept)


def _end_to_end(message: Message, *, upgrade: bool) -> Headers:
    """The end-to-end headers. `upgrade`: the Upgrade fields may stay; they get a new Connection field.

    Content-Length beside Transfer-Encoding is dropped (RFC 9112, section 6.3).
    """
    headers = message.headers
    tokens = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    names = {name for name, _ in headers}
    dropped = _HOP_BY_HOP | (tokens - {b"content-length", b"transfer-encoding", b"host"})
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    kept = [field for field in headers.raw_items() if field[0].lower() not in dropped]
    if upgrade and b"upgrade" in tokens and (protocols := _upgrades(headers.raw_items())):
        kept += [(b"Connection", b"Upgrade"), *protocols]
    return kept


def _upgrades(headers: Headers) -> Headers:
    """The Upgrade fields without h2c (HTTP/2), whose settings field is hop-by-hop."""
    fields: Headers = []
    for name, value in headers:
        if name.lower() == b"upgrade":
            protocols = [protocol.strip() for protocol in value.split(b",")]
            if left := [protocol for protocol in protocols if protocol and protocol.lower() != b"h2c"]:
                fields.append((name, b", ".join(left)))
    return fields
