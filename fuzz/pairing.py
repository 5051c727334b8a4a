"""Targets: the words of an invitation as typed, and the two sides of a pairing with somebody in between."""

from __future__ import annotations

from fuzz.choices import Choices
from toxproxy.address import parse_tox_id
from toxproxy.pairing.exchange import Inviter, Joiner, Side, Stage
from toxproxy.pairing.messages import Kind, Message, encode, parse
from toxproxy.pairing.place import Place
from toxproxy.pairing.words import link, parse_words, word_list

_WORDS = ("abandon", "ability", "able", "about", "zoo", "zone")
_PLACE = Place(bytes(32), bytes(32), bytes(range(32)), bytes(range(32, 64)))  # no key is computed here
_SERVER = parse_tox_id("A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719")
_KEY = bytes(range(64, 96))
_SESSION = b"session1"
_MOVES = 24  # each may cost 20 ms of elliptic curves
_BODY_BYTES = 100


def words(data: bytes) -> None:
    """A text is six words of the list, or one printable error."""
    complaint = ""
    try:
        found = parse_words(data.decode(errors="replace"))
    except ValueError as error:
        complaint = str(error)
    assert complaint.isprintable()
    if complaint:
        return
    assert len(found) == 6
    assert set(found) <= set(word_list())
    assert parse_words(link(found)) == found


def pairing(data: bytes) -> None:
    """Whatever somebody in between sends, each side gets the other's key or none."""
    choices = Choices(data)
    game = Game()
    for _ in range(_MOVES):
        if not choices:
            return
        choices.pick(MOVES)(game, choices)
        game.check()


class Game:
    """Two honest sides. Everything between them goes through somebody who knows the place."""

    def __init__(self) -> None:
        self._inviter = Inviter(_WORDS, _PLACE)
        self._joiner = Joiner(_WORDS, _PLACE, _KEY, _SESSION)
        self._seen = [encode(Message(Kind.HELLO, _SESSION))]

    def pass_on(self, choices: Choices) -> None:
        """Pass on what a side sends."""
        sender, receiver = self._sides(choices)
        if sender.packet is not None:
            self._deliver(receiver, sender.packet)

    def repeat(self, choices: Choices) -> None:
        """Send something again, perhaps changed, perhaps to the side that it came from."""
        _, receiver = self._sides(choices)
        packet = bytearray(choices.pick(self._seen))
        if choices.integer(1):
            packet[choices.integer(len(packet) - 1)] ^= choices.integer(255)
        self._deliver(receiver, bytes(packet[: len(packet) - choices.integer(3)]))

    def invent(self, choices: Choices) -> None:
        """Send a message of one's own."""
        _, receiver = self._sides(choices)
        session = choices.pick((_SESSION, b"session2", choices.chunk(8)))
        body = choices.chunk(_BODY_BYTES)
        header = bytes((226, choices.pick((1, 1, 1, 2)), choices.integer(10)))
        self._deliver(receiver, header + session + body)

    def junk(self, choices: Choices) -> None:
        """Send any bytes."""
        _, receiver = self._sides(choices)
        self._deliver(receiver, choices.chunk(_BODY_BYTES))

    def welcome(self, choices: Choices) -> None:
        """The server lets the client in."""
        if self._inviter.stage is Stage.PROVEN:
            self._inviter.welcome(_SERVER)

    def check(self) -> None:
        """What has to hold after every move."""
        inviter, joiner = self._inviter, self._joiner
        if inviter.stage in (Stage.PROVEN, Stage.WELCOMED, Stage.JOINED):
            assert inviter.client_key == _KEY
        if joiner.stage in (Stage.WELCOMED, Stage.JOINED):
            assert joiner.server == _SERVER
            assert inviter.stage in (Stage.WELCOMED, Stage.JOINED)
            assert inviter.check == joiner.check
        for side in (inviter, joiner):
            assert (side.stage is Stage.FAILED) == (side.reason is not None)
            if side.packet is not None:
                parse(side.packet)

    def _sides(self, choices: Choices) -> tuple[Side, Side]:
        return choices.pick(((self._joiner, self._inviter), (self._inviter, self._joiner)))

    def _deliver(self, receiver: Side, packet: bytes) -> None:
        answer = receiver.receive(packet)
        for sent in (packet, answer):
            if sent and sent not in self._seen:
                self._seen.append(sent)
        if answer is not None:
            parse(answer)


MOVES = (Game.pass_on, Game.repeat, Game.invent, Game.junk, Game.welcome)
