"""The binding: pytox's interface over the real library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from toxproxy.tox.pytox import MAX_CUSTOM_PACKET_SIZE, Tox, ToxError, ToxOptions

OPTIONS = ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=40700, end_port=40799)


class Recorder(Tox):
    """Records what it is told, and accepts every friend request."""

    def __init__(self) -> None:
        super().__init__(OPTIONS)
        self.told: list[tuple[object, ...]] = []

    def on_friend_request(self, public_key: str, message: str) -> None:
        self.told.append(("request", public_key, message))
        self.friend_add_norequest(public_key)

    def on_friend_connection_status(self, friend_number: int, status: int) -> None:
        self.told.append(("status", friend_number, status))

    def on_friend_message(self, friend_number: int, type: int, message: str) -> None:
        self.told.append(("message", friend_number, type, message))

    def on_friend_name(self, friend_number: int, new_name: str) -> None:
        self.told.append(("name", friend_number, new_name))

    def on_friend_lossless_packet(self, friend_number: int, data: object) -> None:
        self.told.append(("lossless", friend_number, bytes(data)))  # type: ignore[call-overload]


Until = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def friends() -> Iterator[tuple[Recorder, Recorder, Until]]:
    """Two connected nodes, and a function that runs them until a condition is true."""
    one, other = Recorder(), Recorder()

    def until(so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not so():
            assert time.monotonic() < deadline
            one.iterate()
            other.iterate()
            time.sleep(0.01)

    other.bootstrap("127.0.0.1", one.self_get_udp_port(), one.self_get_dht_id())
    other.friend_add(one.self_get_address(), "hello \udcff")
    until(lambda: ("status", 0, Tox.CONNECTION_UDP) in one.told)
    until(lambda: ("status", 0, Tox.CONNECTION_UDP) in other.told)
    yield one, other, until
    one.kill()
    other.kill()


Friends = tuple[Recorder, Recorder, Until]


def test_a_friend_request_has_the_key_and_message_that_were_sent(friends: Friends) -> None:
    one, other, _ = friends
    assert one.told[0] == ("request", other.self_get_public_key(), "hello \udcff")
    assert one.friend_by_public_key(other.self_get_public_key()) == 0
    assert one.friend_get_public_key(0) == other.self_get_public_key()
    assert one.friend_get_connection_status(0) == Tox.CONNECTION_UDP


def test_names_and_messages_arrive(friends: Friends) -> None:
    one, other, until = friends
    other.self_set_name("Zoë")
    until(lambda: ("name", 0, "Zoë") in one.told)
    assert one.friend_get_name(0) == other.self_get_name() == "Zoë"
    other.friend_send_message(0, Tox.MESSAGE_TYPE_ACTION, "waves")
    until(lambda: ("message", 0, Tox.MESSAGE_TYPE_ACTION, "waves") in one.told)


def test_lossless_packets_arrive_in_order(friends: Friends) -> None:
    one, other, until = friends
    sent = [bytes([160, i]) * (i + 1) for i in range(50)]
    for packet in sent:
        assert other.friend_send_lossless_packet(0, packet)
    until(lambda: [entry[2] for entry in one.told if entry[0] == "lossless"] == sent)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_sent_whole(
    friends: Friends, kind: type[bytes | bytearray | memoryview], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, until = friends
    got: list[bytes] = []
    monkeypatch.setattr(one, "on_friend_lossy_packet", lambda _, data: got.append(data[:]))
    packet = bytes([200]) + bytes(range(256)) * 5 + bytes(92)
    assert len(packet) == MAX_CUSTOM_PACKET_SIZE
    assert other.friend_send_lossy_packet(0, kind(packet))
    until(lambda: bool(got))
    assert got == [packet]


def test_iterate_raises_what_a_callback_raises(friends: Friends, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, until = friends

    def fail(_: int, data: object) -> None:
        raise LookupError("no")

    monkeypatch.setattr(one, "on_friend_lossy_packet", fail)
    other.friend_send_lossy_packet(0, b"\xc8")
    with pytest.raises(LookupError, match="no"):
        until(lambda: False)
    for _ in range(3):
        other.friend_send_lossy_packet(0, b"\xc8")
    time.sleep(0.05)
    with pytest.raises(ExceptionGroup) as caught:
        until(lambda: False)
    assert [type(error) for error in caught.value.exceptions] == [LookupError] * 3


@pytest.mark.parametrize("call", ["iterate", "kill"])
def test_a_callback_may_not_kill_or_iterate_the_node(
    friends: Friends, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, until = friends
    monkeypatch.setattr(one, "on_friend_lossy_packet", lambda *_: getattr(one, call)())
    other.friend_send_lossy_packet(0, b"\xc8")
    with pytest.raises(RuntimeError, match=f"{call} was called from a callback"):
        until(lambda: False)
    assert one.friend_exists(0)


@pytest.fixture
def tox() -> Iterator[Tox]:
    tox = Tox(OPTIONS)
    yield tox
    tox.kill()


def test_keys_are_hexadecimal_as_in_pytox(tox: Tox) -> None:
    address = tox.self_get_address()
    assert len(address) == 76
    assert address.startswith(tox.self_get_public_key())
    assert address == address.upper()
    assert len(tox.self_get_dht_id()) == 64


def test_an_error_names_the_function_and_the_code(tox: Tox) -> None:
    with pytest.raises(ToxError, match=r"^tox_friend_add: TOX_ERR_FRIEND_ADD_OWN_KEY$") as caught:
        tox.friend_add(tox.self_get_address(), "hello")
    assert caught.value.function == "tox_friend_add"
    assert caught.value.code == "TOX_ERR_FRIEND_ADD_OWN_KEY"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda tox: tox.friend_delete(7), "TOX_ERR_FRIEND_DELETE_FRIEND_NOT_FOUND"),
        (lambda tox: tox.friend_get_public_key(7), "TOX_ERR_FRIEND_GET_PUBLIC_KEY_FRIEND_NOT_FOUND"),
        (lambda tox: tox.friend_get_name(7), "TOX_ERR_FRIEND_QUERY_FRIEND_NOT_FOUND"),
        (lambda tox: tox.friend_by_public_key("00" * 32), "TOX_ERR_FRIEND_BY_PUBLIC_KEY_NOT_FOUND"),
        (lambda tox: tox.friend_send_message(7, 0, "x"), "TOX_ERR_FRIEND_SEND_MESSAGE_FRIEND_NOT_FOUND"),
        (lambda tox: tox.friend_send_lossless_packet(7, b""), "TOX_ERR_FRIEND_CUSTOM_PACKET_EMPTY"),
        (lambda tox: tox.self_set_name("x" * 129), "TOX_ERR_SET_INFO_TOO_LONG"),
        (lambda tox: tox.self_get_tcp_port(), "TOX_ERR_GET_PORT_NOT_BOUND"),
        (lambda tox: tox.bootstrap("127.0.0.1", 0, "00" * 32), "TOX_ERR_BOOTSTRAP_BAD_PORT"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_code(tox: Tox, call: Callable[[Tox], object], code: str) -> None:
    with pytest.raises(ToxError) as caught:
        call(tox)
    assert caught.value.code == code


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, "00" * 33])
def test_a_key_of_the_wrong_size_never_reaches_the_library(tox: Tox, key: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        tox.friend_add_norequest(key)


def test_friends_can_be_added_listed_and_deleted(tox: Tox) -> None:
    one, two = tox.friend_add_norequest("11" * 32), tox.friend_add_norequest("22" * 32)
    assert tox.self_get_friend_list() == [one, two]
    tox.friend_delete(one)
    assert tox.self_get_friend_list() == [two]
    assert not tox.friend_exists(one)


def test_a_saved_node_is_the_same_node(tox: Tox) -> None:
    tox.self_set_name("same")
    again = Tox(ToxOptions(savedata_data=tox.get_savedata(), udp_enabled=False))
    assert again.self_get_address() == tox.self_get_address()
    assert again.self_get_name() == "same"
    again.kill()


def test_a_status_message_is_kept_as_in_pytox(tox: Tox) -> None:
    assert tox.self_set_status_message("at home")
    assert b"at home" in tox.get_savedata()
    with pytest.raises(ToxError, match="TOX_ERR_SET_INFO_TOO_LONG"):
        tox.self_set_status_message("x" * 1008)  # tox.h: TOX_MAX_STATUS_MESSAGE_LENGTH is 1007


def test_calls_to_a_killed_node_raise_and_killing_it_again_does_nothing() -> None:
    tox = Tox(OPTIONS)
    tox.kill()
    tox.kill()
    for call in (tox.iterate, tox.self_get_address, tox.get_savedata, tox.self_get_friend_list):
        with pytest.raises(ToxError, match="killed"):
            call()
    with pytest.raises(ToxError, match="killed"):
        tox.friend_send_lossy_packet(0, b"\xc8")


def test_invalid_saved_data_is_an_error() -> None:
    with pytest.raises(ToxError, match=r"^tox_new: TOX_ERR_NEW_LOAD_BAD_FORMAT$"):
        Tox(ToxOptions(savedata_data=b"rubbish" * 100, udp_enabled=False))
