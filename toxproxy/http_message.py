"""HTTP/1.1 messages as a proxy passes them on (RFC 9110, RFC 9112), and the ones it says itself.

Pure functions over h11's events. A request for a proxy names its target in absolute form, or
is a CONNECT; everything else was meant for a server.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass

import h11

from toxproxy.address import Target, parse_host, parse_port, parse_target, split_fields
from toxproxy.answers import ANSWERS
from toxproxy.errors import StreamRefused, ToxproxyError
from toxproxy.handshake import Credentials

Headers = list[tuple[bytes, bytes]]
Message = h11.Request | h11.InformationalResponse | h11.Response

RETRY_SECONDS = 5

_DEFAULT_PORT = 80
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?")
# RFC 9110, section 7.6.1, and the two that are for this proxy alone (section 11.7).
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"}
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the proxy itself answers: a status, a text for people, and the headers that go with it."""

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RequestError(ToxproxyError):
    """The request cannot be passed on; `reply` says why."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(text)
        self.reply = Reply(status, text, headers)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes: `host` is the value of its Host header, `path` its target in origin form."""

    target: Target
    host: bytes
    path: bytes


def destination(request: h11.Request) -> Destination:
    """Read the target of a request: authority form for CONNECT, else absolute form (RFC 9112, section 3.2).

    Raises `RequestError`.
    """
    if request.method == b"CONNECT":
        try:
            return Destination(parse_target(request.target.decode()), request.target, request.target)
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
        name, *port = split_fields(host.decode())
        number = parse_port(port[0]) if port and port[0] else _DEFAULT_PORT
        if len(port) > 1:
            raise ValueError(f"expected host:port, found {host.decode()!r}")
        return Destination(Target(parse_host(name), number), host, path)
    except ValueError as error:
        raise RequestError(400, f"The request's address cannot be used: {error}.") from error


def authorized(request: h11.Request, credentials: Credentials) -> bool:
    """Whether the request carries the right user name and password (Basic, RFC 7617)."""
    for name, value in request.headers:
        if name == b"proxy-authorization":
            scheme, _, token = value.partition(b" ")
            try:
                username, colon, password = b64decode(token.strip(), validate=True).partition(b":")
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
    """The answer to a request whose target the far end did not reach."""
    answer = ANSWERS[refusal.code]
    headers = [(b"Proxy-Status", b"toxproxy; error=" + answer.error.encode())]
    if answer.status == 503:
        headers.append((b"Retry-After", b"%d" % RETRY_SECONDS))
    text = f"{target} could not be reached: {refusal.text}.\n{answer.advice}"
    return Reply(answer.status, text, tuple(headers))


def incomplete_answer(target: Target, why: str) -> Reply:
    """The answer to a request whose server said nothing that makes sense."""
    text = f"{target} was reached but did not answer properly: {why}."
    return Reply(502, text, ((b"Proxy-Status", b"toxproxy; error=http_protocol_error"),))


def outgoing_request(request: h11.Request, to: Destination) -> h11.Request:
    """The request as the origin server is to see it."""
    headers = _end_to_end(request, upgrade=True)
    headers = [(b"Host", to.host), *(field for field in headers if field[0].lower() != b"host")]
    return h11.Request(method=request.method, target=to.path, headers=headers)


def outgoing_response(response: h11.Response) -> h11.Response:
    """The final response as the client is to see it."""
    headers = _end_to_end(response, upgrade=response.status_code == 426)
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)


def outgoing_information(response: h11.InformationalResponse) -> h11.InformationalResponse:
    """A response before the final one; 101 keeps what it says about the new protocol."""
    headers = _end_to_end(response, upgrade=response.status_code == 101)
    return h11.InformationalResponse(
        status_code=response.status_code, reason=response.reason, headers=headers
    )


def _end_to_end(message: Message, *, upgrade: bool) -> Headers:
    """The headers without those that end at this hop; an upgrade, where there may be one, is said anew.

    Where a message is chunked, a Content-Length next to it is dropped (RFC 9112, section 6.3).
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
    if upgrade and b"upgrade" in tokens:
        kept.append((b"Connection", b"Upgrade"))
        kept += [field for field in headers.raw_items() if field[0].lower() == b"upgrade"]
    return kept
