"""The two sides of a pairing, without a network: good ends, wrong words, loss, and false peers."""

from __future__ import annotations

import random
from collections import deque
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spake2 import SPAKE2_A, SPAKE2_B

from toxproxy.address import parse_tox_id
from toxproxy.pairing.exchange import Inviter, Joiner, Reason, Side, Stage, _Keys
from toxproxy.pairing.messages import Kind, Message, encode, parse
from toxproxy.pairing.place import Place

WORDS = ("abandon", "ability", "able", "about", "zoo", "zone")
WRONG = ("abandon", "ability", "able", "about", "zoo", "zebra")
PLACE = Place(bytes(32), bytes(32), bytes(range(32)), bytes(range(32, 64)))
SERVER = parse_tox_id("A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719")
KEY = bytes(range(64, 96))
SESSION = b"session1"


def pair(words: tuple[str, ...] = WORDS) -> tuple[Inviter, Joiner]:
    """An inviter with the right words, and a joiner with some."""
    return Inviter(WORDS, PLACE), Joiner(words, PLACE, KEY, SESSION)


def sent(side: Side) -> bytes:
    assert side.packet is not None
    return side.packet


def kind(side: Side) -> Kind:
    return parse(sent(side)).kind


def pass_on(sender: Side, receiver: Side) -> None:
    receiver.receive(sent(sender))


def up_to(stage: Stage, words: tuple[str, ...] = WORDS) -> tuple[Inviter, Joiner]:
    """A pair whose inviter has reached a stage."""
    inviter, joiner = pair(words)
    while inviter.stage is not stage:
        if inviter.stage is Stage.PROVEN:
            inviter.welcome(SERVER)
        else:
            pass_on(joiner, inviter)
        if inviter.stage is not stage and inviter.packet is not None:
            pass_on(inviter, joiner)
    return inviter, joiner


# Good ends


def test_both_get_the_keys_and_the_same_check_words() -> None:
    inviter, joiner = up_to(Stage.PROVEN)
    assert inviter.client_key == KEY
    assert inviter.packet is None  # nothing is told before the client is let in
    inviter.welcome(SERVER)
    pass_on(inviter, joiner)
    assert (joiner.stage, joiner.server) == (Stage.WELCOMED, SERVER)
    pass_on(joiner, inviter)
    assert inviter.stage is Stage.JOINED
    pass_on(inviter, joiner)
    assert joiner.stage is Stage.JOINED
    assert inviter.check == joiner.check
    assert len(joiner.check) == 2


def test_another_pairing_with_the_same_words_has_other_check_words() -> None:
    assert len({up_to(Stage.PROVEN)[0].check for _ in range(8)}) >= 7


def test_no_key_and_no_id_is_in_a_packet_in_clear() -> None:
    inviter, joiner = pair()
    packets = [sent(joiner)]
    for _ in range(3):
        pass_on(joiner, inviter)
        if inviter.stage is Stage.PROVEN:
            inviter.welcome(SERVER)
        pass_on(inviter, joiner)
        packets += [sent(inviter), sent(joiner)]
    assert joiner.stage is Stage.WELCOMED
    assert not any(KEY in packet or SERVER.raw in packet or SERVER.public_key in packet for packet in packets)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_lost_repeated_and_disordered_packets_change_nothing(seed: int) -> None:
    roll = random.Random(seed).random
    inviter, joiner = pair()
    on_the_way: deque[tuple[Side, bytes]] = deque()

    def send(receiver: Side, packet: bytes | None) -> None:
        if packet is not None:
            on_the_way.extend([(receiver, packet)] * (roll() < 0.7) * (1 + (roll() < 0.3)))

    for _ in range(400):
        if joiner.stage is Stage.JOINED:
            break
        if not on_the_way or roll() < 0.1:  # the timers
            send(inviter, joiner.packet)
            send(joiner, inviter.packet)
            continue
        if roll() < 0.3:
            on_the_way.rotate(int(roll() * 5))
        receiver, packet = on_the_way.popleft()
        other = joiner if receiver is inviter else inviter
        send(other, receiver.receive(packet))
        if inviter.stage is Stage.PROVEN:
            inviter.welcome(SERVER)
            send(joiner, inviter.packet)
    assert (inviter.stage, joiner.stage) == (Stage.JOINED, Stage.JOINED)
    assert inviter.check == joiner.check


def test_a_joiner_that_begins_again_before_its_proof_is_served() -> None:
    inviter, _ = up_to(Stage.REVEALED)
    again = Joiner(WORDS, PLACE, KEY, b"session2")
    for _ in range(2):
        pass_on(again, inviter)
        pass_on(inviter, again)
    pass_on(again, inviter)
    assert inviter.stage is Stage.PROVEN
    assert inviter.attempts == 2


# Wrong words


def test_a_wrong_word_ends_the_invitation_and_both_know() -> None:
    inviter, joiner = up_to(Stage.FAILED, WRONG)
    assert inviter.reason is Reason.WRONG
    assert inviter.attempts == 1
    assert not hasattr(inviter, "client_key")
    pass_on(inviter, joiner)
    assert (joiner.stage, joiner.reason) == (Stage.FAILED, Reason.WRONG)
    assert not hasattr(joiner, "server")


def test_an_invitation_is_over_after_a_wrong_proof_for_the_right_words_too() -> None:
    inviter, _ = up_to(Stage.FAILED, WRONG)
    late = Joiner(WORDS, PLACE, KEY, b"session2")
    answer = inviter.receive(sent(late))
    assert answer is not None
    late.receive(answer)
    assert late.reason is Reason.OVER


@pytest.mark.parametrize("stage", [Stage.PROVEN, Stage.WELCOMED, Stage.JOINED])
def test_a_second_joiner_is_refused_and_changes_nothing(stage: Stage) -> None:
    inviter, _ = up_to(stage)
    packet = inviter.packet
    second = Joiner(WORDS, PLACE, bytes(32), b"session2")
    for _ in range(3):  # a packet that is sent again is no other attempt
        answer = inviter.receive(sent(second))
    assert answer is not None
    second.receive(answer)
    assert second.reason is Reason.OVER
    assert inviter.attempts == 2
    assert (inviter.stage, inviter.packet, inviter.client_key) == (stage, packet, KEY)


def test_who_begins_again_and_again_without_a_proof_is_stopped() -> None:
    inviter, _ = pair()
    for number in range(16):
        inviter.receive(encode(Message(Kind.HELLO, bytes((1, *bytes(6), number)))))
        assert inviter.stage is Stage.COMMITTED
    inviter.receive(encode(Message(Kind.HELLO, bytes((2, *bytes(7))))))
    assert (inviter.stage, inviter.reason) == (Stage.FAILED, Reason.OVER)


# False peers


def test_a_false_inviter_is_told_nothing_that_the_words_could_be_tried_against_before_it_reveals() -> None:
    _, joiner = pair()
    spake = SPAKE2_A(b"guess", PLACE.inviter_key, PLACE.joiner_key)
    reveal = Message(Kind.REVEAL, SESSION, spake.start())
    commit = sha256(b"toxproxy pairing 1" + SESSION + reveal.body).digest()
    joiner.receive(encode(Message(Kind.COMMIT, SESSION, commit)))
    assert kind(joiner) is Kind.SHARE
    joiner.receive(encode(reveal))
    assert kind(joiner) is Kind.PROOF  # its one guess: this proof is right if the guess is
    joiner.receive(encode(Message(Kind.WELCOME, SESSION, bytes(86))))
    assert (joiner.stage, joiner.reason) == (Stage.FAILED, Reason.WRONG)


def test_an_inviter_that_reveals_something_else_than_it_committed_to_gets_no_proof() -> None:
    inviter, joiner = pair()
    pass_on(joiner, inviter)
    pass_on(inviter, joiner)
    other = SPAKE2_A(" ".join(WORDS).encode(), PLACE.inviter_key, PLACE.joiner_key).start()
    joiner.receive(encode(Message(Kind.REVEAL, SESSION, other)))
    assert (joiner.stage, joiner.reason) == (Stage.FAILED, Reason.WRONG)


def test_each_proof_is_of_its_own_session_and_direction() -> None:
    """What one side said proves nothing when it is sent back, or in another session."""
    inviter, joiner = up_to(Stage.REVEALED)
    pass_on(inviter, joiner)
    proof = parse(sent(joiner)).body
    other, _ = up_to(Stage.REVEALED)
    other.receive(encode(Message(Kind.PROOF, SESSION, proof)))
    assert other.reason is Reason.WRONG
    joiner.receive(encode(Message(Kind.WELCOME, SESSION, proof + bytes(6))))
    assert joiner.reason is Reason.WRONG


@pytest.mark.parametrize("at", [0, 31, 32, 79])
def test_a_proof_with_one_bit_changed_is_wrong(at: int) -> None:
    inviter, joiner = up_to(Stage.REVEALED)
    pass_on(inviter, joiner)
    packet = bytearray(sent(joiner))
    packet[11 + at] ^= 1
    inviter.receive(bytes(packet))
    assert inviter.reason is Reason.WRONG


def test_done_and_bye_count_only_where_they_belong() -> None:
    inviter, _ = up_to(Stage.WELCOMED)
    inviter.receive(encode(Message(Kind.DONE, SESSION, bytes(32))))
    assert inviter.stage is Stage.WELCOMED
    _, joiner = up_to(Stage.REVEALED)
    joiner.receive(encode(Message(Kind.BYE, SESSION)))
    assert joiner.stage is Stage.SHARED


SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    b"\xee" + b"\xff" * 30 + b"\x7f",
    b"\xff" * 32,
    b"\x01" + bytes(30) + b"\x80",
]


@pytest.mark.parametrize("side", [b"A", b"B", b"S", b"\0"])
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_share_that_no_honest_peer_sends_gives_no_proof(point: bytes, side: bytes) -> None:
    inviter, joiner = pair()
    pass_on(joiner, inviter)
    inviter.receive(encode(Message(Kind.SHARE, SESSION, side + point)))
    assert (inviter.stage, inviter.reason) == (Stage.FAILED, Reason.WRONG)


def test_a_share_sent_back_is_refused() -> None:
    inviter, joiner = pair()
    pass_on(joiner, inviter)
    inviter.receive(encode(Message(Kind.SHARE, SESSION, b"B" + inviter._reveal.body[1:])))
    assert inviter.reason is Reason.WRONG


@given(st.binary(max_size=120))
def test_no_packet_of_a_stranger_changes_a_stage_but_for_hello_and_a_version(packet: bytes) -> None:
    for stage in (Stage.COMMITTED, Stage.REVEALED, Stage.WELCOMED):
        inviter, joiner = up_to(stage)
        before = inviter.stage, joiner.stage
        if packet[:1] != b"\xe2":
            assert inviter.receive(packet) is joiner.receive(packet) is None
        assert (inviter.stage, joiner.stage) == before


# Refusals


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_reaches_the_joiner_with_its_reason(reason: Reason) -> None:
    inviter, joiner = up_to(Stage.COMMITTED)
    inviter.refuse(reason)
    pass_on(inviter, joiner)
    assert (joiner.stage, joiner.reason, joiner.packet) == (Stage.FAILED, reason, None)


def test_a_reason_of_a_later_version_is_a_failure() -> None:
    _, joiner = pair()
    joiner.receive(encode(Message(Kind.REFUSED, SESSION, b"\xc8")))
    assert joiner.reason is Reason.FAILED


def test_a_refusal_after_the_welcome_changes_nothing() -> None:
    inviter, joiner = up_to(Stage.WELCOMED)
    pass_on(inviter, joiner)
    joiner.receive(encode(Message(Kind.REFUSED, SESSION, b"\x01")))
    assert joiner.stage is Stage.WELCOMED


def test_another_version_is_refused_by_both() -> None:
    for side in pair():
        answer = side.receive(bytes((226, 2, 1)) + SESSION)
        assert side.reason is Reason.VERSION
        assert answer is not None
        assert parse(answer).kind is Kind.REFUSED


@pytest.mark.parametrize("key", [b"\xff" * 32])
def test_a_key_that_tox_does_not_accept_is_refused(key: bytes) -> None:
    inviter, joiner = Inviter(WORDS, PLACE), Joiner(WORDS, PLACE, key, SESSION)
    for _ in range(2):
        pass_on(joiner, inviter)
        pass_on(inviter, joiner)
    pass_on(joiner, inviter)
    assert inviter.reason is Reason.FAILED


# The transcript


def keys(session: bytes = SESSION, secret: bytes = bytes(32), share: bytes = b"B" + bytes(32)) -> _Keys:
    return _Keys(
        secret,
        PLACE,
        Message(Kind.COMMIT, session, b"c" * 32),
        Message(Kind.SHARE, session, share),
        Message(Kind.REVEAL, session, b"A" + bytes(32)),
    )


def test_the_keys_of_a_known_transcript() -> None:
    known = keys()
    assert known.check == CHECK
    assert known.seal(Kind.PROOF, KEY).hex() == PROOF
    assert known.prove(Kind.DONE).hex() == DONE


def test_every_part_of_the_transcript_counts() -> None:
    made = [keys(), keys(session=b"session2"), keys(secret=b"1" * 32), keys(share=b"B" + b"1" * 32)]
    assert len({each.prove(Kind.DONE) for each in made}) == 4
    assert len({each.check for each in made}) == 4


def test_spake2_of_the_library_agrees_with_itself_on_known_entropy() -> None:
    """The password, the two identities and the order of the sides, as `exchange` uses them."""
    ids = PLACE.inviter_key, PLACE.joiner_key
    password = " ".join(WORDS).encode()
    a = SPAKE2_A(password, *ids, entropy_f=lambda count: b"a" * count)
    b = SPAKE2_B(password, *ids, entropy_f=lambda count: b"b" * count)
    reveal, share = a.start(), b.start()
    assert (reveal.hex(), share.hex()) == (REVEAL, SHARE)
    assert a.finish(share) == b.finish(reveal) == bytes.fromhex(SECRET)


CHECK = ("vessel", "theme")
PROOF = (
    "0e0ee77408997d7903f8e07228d2b53df58576112732915f4f9ca3c4bc2263c2"
    "91992b10984a29492bc7202793b86117f7ffb0f9e82d5a922206d3583e5c6fe7befba17e6420f91c89acde65ce751b38"
)
DONE = "cad8a867f9d4b356bfb915f626e5f5f66fd3d1f8b5bdeee662a8b8a166743202"
REVEAL = "41472dabb20169aca74ba81f2aa32873377123055065cba7b397053aeae83e2d54"
SHARE = "429eb52863486c2e69d18f475c0055459560cec5b2a56b1134f6a5c2a06103ad91"
SECRET = "d1fcafdce47ec5b7a7b55d41d373b8f852ecdfb1d2c0d84d93ddbb4fe6747d7a"
