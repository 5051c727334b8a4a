"""libtoxcore with the interface of pytox: a `Tox` object, hexadecimal keys, callbacks to override.

Method and callback names, their arguments and the `ToxOptions` attributes are those of pytox
(https://github.com/TokTok/py-toxcore-c, 0.2.0). Custom packets, which pytox does not have, follow
the same pattern: `friend_send_lossy_packet` and `on_friend_lossy_packet`, and the lossless pair.

Not thread-safe and not re-entrant: a callback may send packets, and add or delete friends, but must
not call `iterate` or `kill`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toxproxy.address import Address
from toxproxy.errors import ToxproxyError
from toxproxy.tox import library
from toxproxy.tox.dht_key import DhtKey, Witness, wipe
from toxproxy.tox.library import ffi
from toxproxy.tox.relay_list import Relay

if TYPE_CHECKING:
    from _cffi_backend import buffer as Buffer

PUBLIC_KEY_SIZE = 32  # the sizes are tox.h's, in bytes
ADDRESS_SIZE = 38
MAX_NAME_LENGTH = 128
MAX_CUSTOM_PACKET_SIZE = 1373  # with the id byte: 192 to 254 lossy, 160 to 191 lossless

_NOT_CONNECTED, _SENDQ = 3, 7  # of Tox_Err_Friend_Custom_Packet


class ToxError(ToxproxyError):
    """libtoxcore reported an error: `function` is the C function, `code` the TOX_ERR_… constant."""

    def __init__(self, function: str, code: str) -> None:
        super().__init__(f"{function}: {code}")
        self.function = function
        self.code = code


@dataclass(slots=True)
class ToxOptions:
    """The options of a new `Tox`.

    Without `savedata_data` it gets a new identity. `start_port` and `end_port` of 0 mean libtoxcore's
    defaults, 33445 to 33545. A `tcp_port` of 0 means: no TCP relay.
    """

    savedata_data: bytes | bytearray | None = field(default=None, repr=False)
    savedata_type: int = 1  # Tox.SAVEDATA_TYPE_TOX_SAVE; or the 32 bytes of a secret key
    ipv6_enabled: bool = True
    udp_enabled: bool = True
    local_discovery_enabled: bool = True
    hole_punching_enabled: bool = True
    proxy_type: int = 0
    proxy_host: str = ""
    proxy_port: int = 0
    start_port: int = 0
    end_port: int = 0
    tcp_port: int = 0


class Tox:
    """One Tox node. It sends and receives, and calls callbacks, only inside `iterate`.

    Every method raises `ToxError` if libtoxcore reports an error, and after `kill`.
    """

    CONNECTION_NONE, CONNECTION_TCP, CONNECTION_UDP = 0, 1, 2
    PROXY_TYPE_NONE, PROXY_TYPE_HTTP, PROXY_TYPE_SOCKS5 = 0, 1, 2
    MESSAGE_TYPE_NORMAL, MESSAGE_TYPE_ACTION = 0, 1
    SAVEDATA_TYPE_NONE, SAVEDATA_TYPE_TOX_SAVE, SAVEDATA_TYPE_SECRET_KEY = 0, 1, 2

    _tox: Any = None  # never passed to C as NULL, which would abort the process
    dht: DhtKey | None = None

    def __init__(self, options: ToxOptions | None = None) -> None:
        """Raises `library.LibraryMissing`, and `ToxError` with a TOX_ERR_NEW_… code."""
        self._lib = library.load()
        self._send_lossy = self._lib.tox_friend_send_lossy_packet
        self._packet_error = ffi.new("Tox_Err_Friend_Custom_Packet *")
        self._iterating = False
        self._failures: list[BaseException] = []
        witness = Witness(self._lib)
        with witness.watching():
            self._tox = _new(self._lib, options or ToxOptions())
        #: Beside pytox's interface: the DHT key with its secret, None where that was not seen.
        self.dht = witness.key(self._read("tox_self_get_dht_id", PUBLIC_KEY_SIZE))
        self._callbacks = self._register()

    def __del__(self) -> None:
        self.kill()

    # Callbacks, to be overridden. `iterate` raises their exceptions.

    def on_self_connection_status(self, status: int) -> None:
        """This node joined the network (CONNECTION_TCP, CONNECTION_UDP) or lost it."""

    def on_friend_request(self, public_key: str, message: str) -> None:
        """Someone asks to be a friend. Bytes that are not UTF-8 come as surrogate escapes."""

    def on_friend_connection_status(self, friend_number: int, status: int) -> None:
        """A friend came (CONNECTION_TCP, CONNECTION_UDP) or went (CONNECTION_NONE)."""

    def on_friend_message(self, friend_number: int, type: int, message: str) -> None:
        """A friend sent text."""

    def on_friend_name(self, friend_number: int, new_name: str) -> None:
        """A friend's name is known or changed."""

    def on_friend_lossy_packet(self, friend_number: int, data: Buffer) -> None:
        """A packet, its id byte first. The buffer is libtoxcore's own and ends with the call:
        slice it (a slice is a copy, as bytes) or hand it to something that reads it at once."""

    def on_friend_lossless_packet(self, friend_number: int, data: Buffer) -> None:
        """As `on_friend_lossy_packet`."""

    def _register(self) -> list[Any]:
        buffer = ffi.buffer
        functions: dict[str, Callable[..., None]] = {
            "self_connection_status": lambda _, status, __: self.on_self_connection_status(status),
            "friend_request": lambda _, key, data, size, __: self.on_friend_request(
                _hex(buffer(key, PUBLIC_KEY_SIZE)), _text(buffer(data, size))
            ),
            "friend_connection_status": lambda _, friend, status, __: self.on_friend_connection_status(
                friend, status
            ),
            "friend_message": lambda _, friend, type, data, size, __: self.on_friend_message(
                friend, type, _text(buffer(data, size))
            ),
            "friend_name": lambda _, friend, data, size, __: self.on_friend_name(
                friend, _text(buffer(data, size))
            ),
            "friend_lossy_packet": lambda _, friend, data, size, __: self.on_friend_lossy_packet(
                friend, buffer(data, size)
            ),
            "friend_lossless_packet": lambda _, friend, data, size, __: self.on_friend_lossless_packet(
                friend, buffer(data, size)
            ),
        }
        callbacks = []
        for event, function in functions.items():
            register = getattr(self._lib, f"tox_callback_{event}")
            callback = ffi.callback(ffi.typeof(register).args[1], function, onerror=self._note_failure)
            register(self._tox, callback)
            callbacks.append(callback)
        return callbacks

    def _note_failure(self, kind: Any, error: BaseException, traceback: Any) -> None:
        self._failures.append(error)

    # Running.

    def iterate(self) -> None:
        """Read what arrived, send what is due, call the callbacks.

        If callbacks raised exceptions, raises them at the end: one as it is, several as a group.
        """
        tox = self._alive("tox_iterate")
        if self._iterating:
            raise RuntimeError("iterate was called from a callback")
        self._iterating = True
        try:
            self._lib.tox_iterate(tox, ffi.NULL)
        finally:
            self._iterating = False
        if self._failures:
            failures, self._failures = self._failures, []
            if len(failures) == 1:
                raise failures[0]
            raise BaseExceptionGroup("several callbacks failed", failures)

    def iteration_interval(self) -> int:
        """Milliseconds until `iterate` wants to be called again, 50 at most."""
        interval: int = self._lib.tox_iteration_interval(self._alive("tox_iteration_interval"))
        return interval

    def kill(self) -> None:
        """End the node, close its sockets. May be called again."""
        if self._tox is None:
            return
        if self._iterating:
            raise RuntimeError("kill was called from a callback")
        tox, self._tox = self._tox, None
        if self.dht is not None:
            self.dht.close()
        self._lib.tox_kill(tox)

    def get_savedata(self) -> bytes:
        """Identity, friends and known nodes, for `ToxOptions.savedata_data`.

        They contain the secret key, and bytes cannot be wiped: see `get_savedata_buffer`.
        """
        return bytes(self.get_savedata_buffer())

    def get_savedata_buffer(self) -> bytearray:
        """As `get_savedata`, in a buffer that the caller can wipe."""
        data = bytearray(self._get("tox_get_savedata_size"))
        self._lib.tox_get_savedata(self._tox, ffi.from_buffer(data))
        return data

    # The network.

    def bootstrap(self, address: str, port: int, public_key: str) -> bool:
        """Bootstrap from the node at a UDP port. Give an IP address; the lookup of a name would block."""
        return bool(self._call("tox_bootstrap", address.encode(), port, _key(public_key)))

    def add_tcp_relay(self, address: str, port: int, public_key: str) -> bool:
        """Add a TCP relay to connect through. Give an IP address; the lookup of a name would block."""
        return bool(self._call("tox_add_tcp_relay", address.encode(), port, _key(public_key)))

    def self_get_connection_status(self) -> int:
        return self._get("tox_self_get_connection_status")

    def self_get_udp_port(self) -> int:
        """The bound UDP port. Raises `ToxError` if there is none."""
        return int(self._call("tox_self_get_udp_port"))

    def self_get_tcp_port(self) -> int:
        """The port of this node's TCP relay. Raises `ToxError` if there is none."""
        return int(self._call("tox_self_get_tcp_port"))

    # This node.

    def self_get_address(self) -> str:
        return _hex(self._read("tox_self_get_address", ADDRESS_SIZE))

    def self_get_public_key(self) -> str:
        return _hex(self._read("tox_self_get_public_key", PUBLIC_KEY_SIZE))

    def self_get_dht_id(self) -> str:
        """The key with which other nodes bootstrap from this one; it is new at every start."""
        return _hex(self._read("tox_self_get_dht_id", PUBLIC_KEY_SIZE))

    def self_set_name(self, name: str) -> bool:
        raw = name.encode()
        return bool(self._call("tox_self_set_name", raw, len(raw)))

    def self_get_name(self) -> str:
        return _text(self._read("tox_self_get_name", self._get("tox_self_get_name_size")))

    def self_set_status_message(self, message: str) -> bool:
        raw = message.encode()
        return bool(self._call("tox_self_set_status_message", raw, len(raw)))

    # Friends.

    def friend_add(self, address: str, message: str) -> int:
        """Send a friend request to a Tox ID; returns the number of the new friend."""
        raw = message.encode("utf-8", "surrogateescape")
        return int(self._call("tox_friend_add", _key(address, ADDRESS_SIZE), raw, len(raw)))

    def friend_add_norequest(self, public_key: str) -> int:
        """Add a friend without a request; returns the number of the friend."""
        return int(self._call("tox_friend_add_norequest", _key(public_key)))

    def friend_delete(self, friend_number: int) -> bool:
        return bool(self._call("tox_friend_delete", friend_number))

    def friend_exists(self, friend_number: int) -> bool:
        return bool(self._lib.tox_friend_exists(self._alive("tox_friend_exists"), friend_number))

    def friend_by_public_key(self, public_key: str) -> int:
        return int(self._call("tox_friend_by_public_key", _key(public_key)))

    def friend_get_public_key(self, friend_number: int) -> str:
        key = ffi.new("uint8_t[]", PUBLIC_KEY_SIZE)
        self._call("tox_friend_get_public_key", friend_number, key)
        return _hex(ffi.buffer(key))

    def friend_dht_packet(
        self,
        friend_number: int,
        key: bytes | None,
        number: int,
        places: Sequence[tuple[Address, int]] = (),
        relays: Sequence[Relay] = (),
    ) -> bytes | None:
        """As `DhtKey.packet`, beside pytox's interface. None where the DHT key's secret is not known."""
        if (dht := self.dht) is None:
            return None
        friend = bytes.fromhex(self.friend_get_public_key(friend_number))
        return self._with_secret_key(lambda own: dht.packet(own, friend, key, number, places, relays))

    def friend_dht_announcement(self, friend_number: int, key: bytes, number: int) -> bytes | None:
        """As `DhtKey.announcement`, beside pytox's interface. None where the secret is not known."""
        if (dht := self.dht) is None:
            return None
        friend = bytes.fromhex(self.friend_get_public_key(friend_number))
        public = bytes.fromhex(self.self_get_public_key())
        return self._with_secret_key(lambda own: dht.announcement(own, public, friend, key, number))

    def _with_secret_key(self, write: Callable[[Any], bytes]) -> bytes:
        own = ffi.new("uint8_t[]", PUBLIC_KEY_SIZE)
        try:
            self._lib.tox_self_get_secret_key(self._alive("tox_self_get_secret_key"), own)
            return write(own)
        finally:
            wipe(own)

    def friend_get_connection_status(self, friend_number: int) -> int:
        return int(self._call("tox_friend_get_connection_status", friend_number))

    def friend_get_name(self, friend_number: int) -> str:
        name = ffi.new("uint8_t[]", self._call("tox_friend_get_name_size", friend_number))
        self._call("tox_friend_get_name", friend_number, name)
        return _text(ffi.buffer(name))

    def self_get_friend_list(self) -> list[int]:
        numbers = ffi.new("uint32_t[]", self._get("tox_self_get_friend_list_size"))
        self._lib.tox_self_get_friend_list(self._tox, numbers)
        return list(numbers)

    def friend_send_message(self, friend_number: int, type: int, message: str) -> int:
        """Send text; returns the number of the message."""
        raw = message.encode()
        return int(self._call("tox_friend_send_message", friend_number, type, raw, len(raw)))

    def friend_send_lossy_packet(self, friend_number: int, data: bytes | bytearray | memoryview) -> bool:
        """Send a packet at once; it may be lost.

        `data` is a buffer of 1 to 1373 bytes; the first byte is the packet id. Returns False if the friend
        is not connected or a send queue is full. Raises `ToxError` for every other error.
        """
        if self._tox is None:
            raise ToxError("tox_friend_send_lossy_packet", "killed")
        view, error = ffi.from_buffer(data), self._packet_error
        if self._send_lossy(self._tox, friend_number, view, len(view), error):
            return True
        return _not_now("tox_friend_send_lossy_packet", error)

    def friend_lossy_sender(self, friend_number: int) -> Callable[[Any, int], bool]:
        """A `friend_send_lossy_packet` for one friend that costs less, beside pytox's interface.

        The function takes a C pointer to the packet (`uint8_t *`, from any `cffi.FFI`) and its length.
        """
        send, error = self._send_lossy, self._packet_error

        def send_from(pointer: Any, length: int) -> bool:
            if self._tox is None:
                raise ToxError("tox_friend_send_lossy_packet", "killed")
            if send(self._tox, friend_number, pointer, length, error):
                return True
            return _not_now("tox_friend_send_lossy_packet", error)

        return send_from

    def friend_send_lossless_packet(self, friend_number: int, data: bytes | bytearray | memoryview) -> bool:
        """As `friend_send_lossy_packet`, but packets arrive, in order, while the friend stays connected."""
        tox = self._alive("tox_friend_send_lossless_packet")
        view, error = ffi.from_buffer(data), self._packet_error
        if self._lib.tox_friend_send_lossless_packet(tox, friend_number, view, len(view), error):
            return True
        return _not_now("tox_friend_send_lossless_packet", error)

    # Calling C.

    def _alive(self, function: str) -> Any:
        if self._tox is None:
            raise ToxError(function, "killed")
        return self._tox

    def _get(self, function: str) -> int:
        return int(getattr(self._lib, function)(self._alive(function)))

    def _read(self, function: str, size: int) -> bytes:
        out = ffi.new("uint8_t[]", size)
        getattr(self._lib, function)(self._alive(function), out)
        return bytes(ffi.buffer(out))

    def _call(self, name: str, *arguments: Any) -> Any:
        return _checked(name, getattr(self._lib, name), self._alive(name), *arguments)


def _checked(name: str, function: Any, *arguments: Any) -> Any:
    """Call a function whose last parameter is an error code. Raises `ToxError` if that is set."""
    error = ffi.new(ffi.typeof(function).args[-1])
    result = function(*arguments, error)
    if error[0]:
        raise ToxError(name, _error_name(error))
    return result


def _error_name(error: Any) -> str:
    names = ffi.typeof(error).item.elements
    return str(names.get(error[0], f"unknown error {error[0]}"))


def _not_now(function: str, error: Any) -> bool:
    if error[0] in (_NOT_CONNECTED, _SENDQ):
        return False
    raise ToxError(function, _error_name(error))


def _new(lib: Any, options: ToxOptions) -> Any:
    raw = _checked("tox_options_new", lib.tox_options_new)
    try:
        for name in (
            "ipv6_enabled", "udp_enabled", "local_discovery_enabled", "hole_punching_enabled",
            "proxy_type", "proxy_port", "start_port", "end_port", "tcp_port",
        ):  # fmt: skip
            getattr(lib, f"tox_options_set_{name}")(raw, getattr(options, name))
        # libtoxcore keeps the two pointers until tox_new returns.
        host = ffi.new("char[]", options.proxy_host.encode())
        lib.tox_options_set_proxy_host(raw, host)
        savedata = ffi.from_buffer(options.savedata_data or b"")
        if options.savedata_data is not None:
            lib.tox_options_set_savedata_type(raw, options.savedata_type)
            lib.tox_options_set_savedata_data(raw, savedata, len(savedata))
        error = ffi.new("Tox_Err_New *")
        tox = lib.tox_new(raw, error)
        if error[0]:
            # For damaged savedata it reports an error and still makes a node, with another identity.
            if tox != ffi.NULL:
                lib.tox_kill(tox)
            raise ToxError("tox_new", _error_name(error))
        return tox
    finally:
        lib.tox_options_free(raw)


def _hex(raw: Any) -> str:
    return bytes(raw).hex().upper()


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", "surrogateescape").removesuffix("\0")


def _key(text: str, size: int = PUBLIC_KEY_SIZE) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != size:
        raise ValueError(f"expected {2 * size} hexadecimal digits, found {text!r}")
    return raw
