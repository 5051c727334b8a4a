"""What a SOCKS client says before its tunnel: SOCKS5 (RFC 1928, RFC 1929), SOCKS4 and SOCKS4a.

Pure: no sockets, no clock. A `Handshake` is fed whatever arrives and says what to send back;
names are never resolved here. It keeps less than 1 KiB of an unfinished message, for every
field has a limit.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address
from typing import NoReturn

from toxproxy.address import Target, parse_host
from toxproxy.errors import Refusal, ToxproxyError
from toxproxy.inbound.answers import ANSWERS

SOCKS4, SOCKS5 = 0x04, 0x05
MAX_FIELD_BYTES = 255  # of a NUL-terminated field of SOCKS4, as of a counted one of SOCKS5

_NO_AUTHENTICATION, _USERNAME_PASSWORD, _NO_METHOD = 0x00, 0x02, 0xFF
_LOGIN_VERSION, _LOGIN_GRANTED, _LOGIN_REFUSED = 0x01, 0x00, 0x01
_CONNECT = 0x01
_SUCCEEDED, _ADDRESS_TYPE_NOT_SUPPORTED = 0x00, 0x08
_GRANTED_4, _REJECTED_4 = 0x5A, 0x5B
_IPV4, _NAME, _IPV6 = 0x01, 0x03, 0x04


class HandshakeError(ToxproxyError):
    """The client said what cannot be done; `reply` is to be sent to it before the connection is closed."""

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


class WrongLogin(HandshakeError):
    """The user name or the password was wrong."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may use the proxy."""

    username: bytes
    password: bytes

    def match(self, username: bytes, password: bytes) -> bool:
        """Compare in a time that says nothing about how much of a guess was right."""
        name_right = hmac.compare_digest(self.username, username)
        return hmac.compare_digest(self.password, password) and name_right


class Expecting(Enum):
    """What the client is expected to send next."""

    VERSION = auto()
    GREETING = auto()
    LOGIN = auto()
    REQUEST_5 = auto()
    REQUEST_4 = auto()
    DONE = auto()
    FAILED = auto()


class Handshake:
    """One client's way from its first byte to its request.

    With `credentials`, only SOCKS5 with the right user name and password gets through.
    `target` is set once the request is complete; `rest` then holds what came after it.
    """

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.target: Target | None = None
        self._credentials = credentials
        self._version = SOCKS5
        self._state = Expecting.VERSION
        self._buffer = bytearray()
        self._replies = bytearray()

    @property
    def rest(self) -> bytes:
        """The bytes after the request, which belong to the tunnel."""
        return bytes(self._buffer) if self._state is Expecting.DONE else b""

    def receive(self, data: bytes) -> bytes:
        """Take what arrived and return what to send back at once, often nothing.

        Raises `HandshakeError`; what is received after that is ignored.
        """
        if self._state is Expecting.FAILED:
            return b""
        self._buffer += data
        while (step := _STEPS.get(self._state)) is not None and step(self):
            pass
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    @property
    def reads_a_login(self) -> bool:
        """Whether what is received next may be a login, or the rest of one."""
        before = (Expecting.VERSION, Expecting.GREETING, Expecting.LOGIN)
        return self._credentials is not None and self._state in before

    def too_many_guesses(self) -> bytes:
        """The last reply where a login is not looked at: what a wrong one is answered with."""
        login = self._state is Expecting.LOGIN
        self._state = Expecting.FAILED
        if login:
            return bytes((_LOGIN_VERSION, _LOGIN_REFUSED))
        return bytes((SOCKS5, _NO_METHOD))

    def granted(self) -> bytes:
        """The last reply: the tunnel is open."""
        return self._reply(_GRANTED_4 if self._version == SOCKS4 else _SUCCEEDED)

    def refused(self, code: Refusal) -> bytes:
        """The last reply: the far end refused."""
        answer = ANSWERS[code]
        return self._reply(answer.socks4 if self._version == SOCKS4 else answer.socks5)

    def _reply(self, code: int) -> bytes:
        """A reply without a bound address, which the far end does not tell: 0.0.0.0, port 0."""
        if self._version == SOCKS4:
            return bytes((0, code)) + bytes(6)
        return bytes((SOCKS5, code, 0, _IPV4)) + bytes(6)

    def _fail(self, text: str, reply: bytes, error: type[HandshakeError] = HandshakeError) -> NoReturn:
        self._state = Expecting.FAILED
        self._buffer.clear()
        raise error(text, bytes(self._replies) + reply)

    def _take(self, size: int) -> bytes | None:
        """Remove the next message from the buffer, if all its `size` bytes are there."""
        if len(self._buffer) < size:
            return None
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        return message

    # One method per state: false where bytes are missing, else the state is the next one.

    def _receive_version(self) -> bool:
        if not self._buffer:
            return False
        self._version = self._buffer[0]
        if self._version == SOCKS5:
            self._state = Expecting.GREETING
        elif self._version == SOCKS4:
            self._state = Expecting.REQUEST_4
        else:
            self._fail(f"expected SOCKS version 4 or 5, found {self._version}", b"")
        return True

    def _receive_greeting(self) -> bool:
        if len(self._buffer) < 2 or (message := self._take(2 + self._buffer[1])) is None:
            return False
        wanted = _NO_AUTHENTICATION if self._credentials is None else _USERNAME_PASSWORD
        if wanted not in message[2:]:
            text = "a user name and password are needed" if self._credentials else "no login is configured"
            self._fail(f"no acceptable authentication method: {text}", bytes((SOCKS5, _NO_METHOD)))
        self._replies += bytes((SOCKS5, wanted))
        self._state = Expecting.REQUEST_5 if self._credentials is None else Expecting.LOGIN
        return True

    def _receive_login(self) -> bool:
        buffer = self._buffer
        if buffer and buffer[0] != _LOGIN_VERSION:
            refusal = bytes((_LOGIN_VERSION, _LOGIN_REFUSED))
            self._fail(f"expected version 1 of the login, found {buffer[0]}", refusal)
        if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
            return False
        after_name = 2 + buffer[1]
        if (message := self._take(after_name + 1 + buffer[after_name])) is None:
            return False
        assert self._credentials is not None
        if not self._credentials.match(message[2:after_name], message[after_name + 1 :]):
            refusal = bytes((_LOGIN_VERSION, _LOGIN_REFUSED))
            self._fail("wrong user name or password", refusal, WrongLogin)
        self._replies += bytes((_LOGIN_VERSION, _LOGIN_GRANTED))
        self._state = Expecting.REQUEST_5
        return True

    def _receive_request_5(self) -> bool:
        buffer = self._buffer
        if buffer and buffer[0] != SOCKS5:
            self._fail(f"expected a request of version 5, found {buffer[0]}", self.refused(Refusal.FAILED))
        if len(buffer) < 4:
            return False
        name_size = buffer[4] if len(buffer) > 4 else 0
        if (size := {_IPV4: 4, _IPV6: 16, _NAME: 1 + name_size}.get(buffer[3])) is None:
            self._fail(f"unknown address type {buffer[3]}", self._reply(_ADDRESS_TYPE_NOT_SUPPORTED))
        if (message := self._take(4 + size + 2)) is None:
            return False
        _, command, _, kind = message[:4]
        if command != _CONNECT:
            self._fail(f"expected CONNECT (1), found command {command}", self.refused(Refusal.UNSUPPORTED))
        address, port = message[4:-2], int.from_bytes(message[-2:], "big")
        if kind == _NAME:
            host = self._name(address[1:])
        else:
            host = str(IPv4Address(address) if kind == _IPV4 else IPv6Address(address))
        self._finish(host, port)
        return True

    def _receive_request_4(self) -> bool:
        """VN, CD, DSTPORT, DSTIP, USERID, NUL; where DSTIP is 0.0.0.x, a name and NUL follow (SOCKS4a)."""
        buffer = self._buffer
        if len(buffer) < 9 or (user_end := self._find_nul(8)) < 0:
            return False
        named = buffer[4:7] == bytes(3) and buffer[7] != 0
        end = self._find_nul(user_end + 1) if named else user_end
        if end < 0:
            return False
        message = bytes(buffer[:end])
        del buffer[: end + 1]
        if self._credentials is not None:
            self._fail("SOCKS4 cannot carry a password: use SOCKS5 or HTTP", self._reply(_REJECTED_4))
        if message[1] != _CONNECT:
            self._fail(f"expected CONNECT (1), found command {message[1]}", self._reply(_REJECTED_4))
        host = self._name(message[user_end + 1 :]) if named else str(IPv4Address(message[4:8]))
        self._finish(host, int.from_bytes(message[2:4], "big"))
        return True

    def _find_nul(self, start: int) -> int:
        """Where the field from `start` ends, -1 where its end has not arrived."""
        end = self._buffer.find(0, start, start + MAX_FIELD_BYTES + 1)
        if end < 0 and len(self._buffer) - start > MAX_FIELD_BYTES:
            self._fail(f"a field is longer than {MAX_FIELD_BYTES} bytes", self._reply(_REJECTED_4))
        return end

    def _name(self, name: bytes) -> str:
        try:
            text = name.decode()
            if text.startswith("[") and text.endswith("]"):  # an IPv6 address as a URL spells it
                return str(IPv6Address(text[1:-1]))
            return parse_host(text)
        except ValueError:
            self._fail(f"expected a host name or an IP address, found {name!r}", self.refused(Refusal.FAILED))

    def _finish(self, host: str, port: int) -> None:
        if not port:
            self._fail(f"expected a port from 1 to 65535 for {host}, found 0", self.refused(Refusal.FAILED))
        self.target = Target(host, port)
        self._state = Expecting.DONE


_STEPS: dict[Expecting, Callable[[Handshake], bool]] = {
    Expecting.VERSION: Handshake._receive_version,
    Expecting.GREETING: Handshake._receive_greeting,
    Expecting.LOGIN: Handshake._receive_login,
    Expecting.REQUEST_5: Handshake._receive_request_5,
    Expecting.REQUEST_4: Handshake._receive_request_4,
}
