"""The handshake of a SOCKS client: SOCKS5 (RFC 1928, RFC 1929), SOCKS4 and SOCKS4a.

Pure: no sockets, no clock. A `Handshake` takes the bytes that arrive and returns the bytes to send back.
Names are not looked up here. Every field has a limit, so an unfinished message takes less than 1 KiB.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NoReturn

from toxproxy.address import Target, parse_host, shown
from toxproxy.errors import Refusal, ToxproxyError
from toxproxy.inbound.answers import ANSWERS

SOCKS4, SOCKS5 = 0x04, 0x05
MAX_FIELD_BYTES = 255  # of SOCKS4's NUL-terminated fields, as SOCKS5's length byte allows

_NO_AUTHENTICATION, _USERNAME_PASSWORD, _NO_METHOD = 0x00, 0x02, 0xFF
_LOGIN_VERSION, _LOGIN_GRANTED, _LOGIN_REFUSED = 0x01, 0x00, 0x01
_CONNECT, _UDP_ASSOCIATE = 0x01, 0x03
_SUCCEEDED, _ADDRESS_TYPE_NOT_SUPPORTED = 0x00, 0x08
_GRANTED_4, _REJECTED_4 = 0x5A, 0x5B
_IPV4, _NAME, _IPV6 = 0x01, 0x03, 0x04


class HandshakeError(ToxproxyError):
    """The client's message is wrong or cannot be served. Send `reply` to it, then close the connection."""

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


class WrongLogin(HandshakeError):
    """The user name or the password was wrong."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user name and the password of a proxy port."""

    username: bytes
    password: bytes

    def match(self, username: bytes, password: bytes) -> bool:
        """Compare in a time that does not depend on how much of a guess is right."""
        name_right = hmac.compare_digest(self.username, username)
        return hmac.compare_digest(self.password, password) and name_right


class Expecting(Enum):
    """What the client has to send next."""

    VERSION = auto()
    GREETING = auto()
    LOGIN = auto()
    REQUEST_5 = auto()
    REQUEST_4 = auto()
    DONE = auto()
    FAILED = auto()


class Handshake:
    """One client's handshake, from its first byte to its request.

    With `credentials`, only SOCKS5 clients with the right user name and password are accepted. `target`
    is set once the request is complete; `rest` then holds the bytes behind it. For UDP ASSOCIATE it is
    `association` that is set: from which address and port the client will send, zeros if it does not know.

    A user name that is one of `exits` is set as `exit`. It takes the place of the user name of
    `credentials`; the password stays theirs. Without `credentials` none is needed.
    """

    def __init__(self, credentials: Credentials | None = None, exits: Collection[str] = ()) -> None:
        self.target: Target | None = None
        self.association: tuple[str, int] | None = None
        self.exit: str | None = None
        self._exits = {name.encode(): name for name in exits}
        self._credentials = credentials
        self._version = SOCKS5
        self._state = Expecting.VERSION
        self._buffer = bytearray()
        self._replies = bytearray()

    @property
    def rest(self) -> bytes:
        """The bytes behind the request. They belong to the connection itself."""
        return bytes(self._buffer) if self._state is Expecting.DONE else b""

    def receive(self, data: bytes) -> bytes:
        """Take the bytes that arrived. Returns the bytes to send back, often none.

        Raises `HandshakeError`. Bytes that are given after an error are ignored.
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
        """Whether the next bytes may be a login, or the rest of one."""
        before = (Expecting.VERSION, Expecting.GREETING, Expecting.LOGIN)
        return self._credentials is not None and self._state in before

    def too_many_guesses(self) -> bytes:
        """The last reply if a login is not checked: the same as for a wrong one."""
        login = self._state is Expecting.LOGIN
        self._state = Expecting.FAILED
        if login:
            return bytes((_LOGIN_VERSION, _LOGIN_REFUSED))
        return bytes((SOCKS5, _NO_METHOD))

    @property
    def done(self) -> bool:
        """Whether the request is complete."""
        return self._state is Expecting.DONE

    def associated(self, host: str, port: int) -> bytes:
        """The last reply to UDP ASSOCIATE: where the client has to send."""
        address = ip_address(host.partition("%")[0])
        kind = _IPV4 if address.version == 4 else _IPV6
        return bytes((SOCKS5, _SUCCEEDED, 0, kind)) + address.packed + port.to_bytes(2)

    def granted(self) -> bytes:
        """The last reply: the connection is open."""
        return self._reply(_GRANTED_4 if self._version == SOCKS4 else _SUCCEEDED)

    def refused(self, code: Refusal) -> bytes:
        """The last reply: the far end refused."""
        answer = ANSWERS[code]
        return self._reply(answer.socks4 if self._version == SOCKS4 else answer.socks5)

    def _reply(self, code: int) -> bytes:
        """A reply with 0.0.0.0, port 0: the near end does not know the address that was bound."""
        if self._version == SOCKS4:
            return bytes((0, code)) + bytes(6)
        return bytes((SOCKS5, code, 0, _IPV4)) + bytes(6)

    def _fail(self, text: str, reply: bytes, error: type[HandshakeError] = HandshakeError) -> NoReturn:
        self._state = Expecting.FAILED
        self._buffer.clear()
        raise error(text, bytes(self._replies) + reply)

    def _take(self, size: int) -> bytes | None:
        """Remove the next `size` bytes from the buffer. None if they have not all arrived."""
        if len(self._buffer) < size:
            return None
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        return message

    # One method per state. False if bytes are missing; otherwise the next state has been set.

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
        if self._exits and _USERNAME_PASSWORD in message[2:]:
            wanted = _USERNAME_PASSWORD  # the client has a user name, which may be an exit's
        if wanted not in message[2:]:
            text = "a user name and password are needed" if self._credentials else "no login is configured"
            self._fail(f"no acceptable authentication method: {text}", bytes((SOCKS5, _NO_METHOD)))
        self._replies += bytes((SOCKS5, wanted))
        self._state = Expecting.LOGIN if wanted == _USERNAME_PASSWORD else Expecting.REQUEST_5
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
        if not self._admit(message[2:after_name], message[after_name + 1 :]):
            refusal = bytes((_LOGIN_VERSION, _LOGIN_REFUSED))
            wrong = (
                "no exit has this user name" if self._credentials is None else "wrong user name or password"
            )
            self._fail(wrong, refusal, WrongLogin)
        self._replies += bytes((_LOGIN_VERSION, _LOGIN_GRANTED))
        self._state = Expecting.REQUEST_5
        return True

    def _admit(self, username: bytes, password: bytes) -> bool:
        self.exit = self._exits.get(username)
        if self._credentials is None:
            return self.exit is not None
        if self.exit is not None:
            username = self._credentials.username
        return self._credentials.match(username, password)

    def _receive_request_5(self) -> bool:
        buffer = self._buffer
        if buffer and buffer[0] != SOCKS5:
            self._fail(f"expected a request of version 5, found {buffer[0]}", self.refused(Refusal.FAILED))
        if len(buffer) < 4:
            return False
        name_size = buffer[4] if len(buffer) > 4 else 0
        if (size := {_IPV4: 4, _IPV6: 16, _NAME: 1 + name_size}.get(buffer[3])) is None:
            text = f"expected address type 1, 3 or 4, found {buffer[3]}"
            self._fail(text, self._reply(_ADDRESS_TYPE_NOT_SUPPORTED))
        if (message := self._take(4 + size + 2)) is None:
            return False
        _, command, _, kind = message[:4]
        if command not in (_CONNECT, _UDP_ASSOCIATE):
            text = f"expected CONNECT (1) or UDP ASSOCIATE (3), found command {command}"
            self._fail(text, self.refused(Refusal.UNSUPPORTED))
        address, port = message[4:-2], int.from_bytes(message[-2:], "big")
        if command == _UDP_ASSOCIATE:
            source = "0.0.0.0" if kind == _NAME else str(ip_address(address))
            self.association = source, port
            self._state = Expecting.DONE
            return True
        if kind == _NAME:
            host = self._name(address[1:])
        else:
            host = str(IPv4Address(address) if kind == _IPV4 else IPv6Address(address))
        self._finish(host, port)
        return True

    def _receive_request_4(self) -> bool:
        """VN, CD, DSTPORT, DSTIP, USERID, NUL. With a DSTIP of 0.0.0.x, a name and NUL follow (SOCKS4a)."""
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
        """The end of the field that begins at `start`, or -1 if it has not arrived."""
        end = self._buffer.find(0, start, start + MAX_FIELD_BYTES + 1)
        if end < 0 and len(self._buffer) - start > MAX_FIELD_BYTES:
            expected = f"expected a field of at most {MAX_FIELD_BYTES} bytes"
            self._fail(f"{expected}, found a longer one", self._reply(_REJECTED_4))
        return end

    def _name(self, name: bytes) -> str:
        try:
            text = name.decode()
            if text.startswith("[") and text.endswith("]"):  # an IPv6 address as a URL spells it
                return str(IPv6Address(text[1:-1]))
            return parse_host(text)
        except ValueError:
            found = shown(name.decode(errors="backslashreplace"))
            self._fail(f"expected a host name or an IP address, found {found}", self.refused(Refusal.FAILED))

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
