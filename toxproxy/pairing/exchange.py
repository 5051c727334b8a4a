"""The two sides of a pairing: each proves that it has the words, then they exchange their Tox keys.

    joiner     HELLO            SHARE               PROOF                       DONE
    inviter            COMMIT           REVEAL               WELCOME                  BYE

SHARE and REVEAL are the messages of SPAKE2 (RFC 9382) with the words as the password: who does not have
the words learns nothing from them, and cannot try words later. COMMIT is the hash of REVEAL, so that
neither side can choose its message by the other's; the check words depend on both. PROOF and WELCOME
prove the key that came out. Each is a guess at the words for a false peer. The joiner proves first, and
the inviter takes one proof: a false joiner has one guess, at an inviter that has told it nothing.

Pure: packets go in and come out. Packets may be lost, come twice and in any order: a packet that does not
fit the stage is ignored, and the owner sends `packet` again until the peer goes on.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from toxproxy.address import ToxId, is_possible_key, parse_tox_id
from toxproxy.errors import RemoteProtocolError
from toxproxy.pairing.messages import MAC_BYTES, Kind, Message, OtherVersion, encode, parse
from toxproxy.pairing.place import Place
from toxproxy.pairing.words import Words, numbered

CHECK_WORDS = 2

_LABEL = b"toxproxy pairing 1"
_MOST_SESSIONS = 16  # that a joiner may begin before it proves anything; each costs the inviter 20 ms
_NONCE = bytes(12)  # each key seals one message
_PRIME = (1 << 255) - 19  # of the field of Ed25519's coordinates


class Reason(IntEnum):
    """Why a pairing failed: the code of a REFUSED message, one byte."""

    WRONG = 1  # the words of the two ends are not the same
    VERSION = 2
    OVER = 3  # the invitation was used, or is being used
    EXPIRED = 4
    CANCELLED = 5
    FAILED = 6  # anything else, such as a server that could not let the client in


class Stage(Enum):
    """How far a side is."""

    CALLING = "the joiner says that it is there"
    WAITING = "the inviter waits for a joiner"
    COMMITTED = "the inviter has sent COMMIT"
    SHARED = "the joiner has sent SHARE"
    REVEALED = "the inviter has sent REVEAL"
    PROVEN = "the joiner has sent its proof; the inviter has found it right"
    WELCOMED = "the joiner is let in and has the server's Tox ID"
    JOINED = "both know that"
    FAILED = "it is over"


class _Keys:
    """What both sides derive from the result of SPAKE2 and from what was said before."""

    def __init__(self, secret: bytes, place: Place, commit: Message, share: Message, reveal: Message) -> None:
        said = (_LABEL, place.inviter_key, place.joiner_key, commit.session)
        # Each part has a fixed length.
        self._said = sha256(b"".join((*said, commit.body, share.body, reveal.body))).digest()
        raw = HKDF(SHA256(), 5 * 32 + 2 * CHECK_WORDS, salt=self._said, info=_LABEL).derive(secret)
        self._proofs = {Kind.PROOF: raw[:32], Kind.WELCOME: raw[32:64], Kind.DONE: raw[64:96]}
        self._seals = {Kind.PROOF: raw[96:128], Kind.WELCOME: raw[128:160]}
        self.check = numbered(raw[160:])

    def seal(self, kind: Kind, card: bytes) -> bytes:
        """The body of a PROOF or WELCOME: the proof, then the encrypted card."""
        sealed = ChaCha20Poly1305(self._seals[kind]).encrypt(_NONCE, card, None)
        return self.prove(kind, sealed) + sealed

    def open(self, kind: Kind, body: bytes) -> bytes | None:
        """The card, or None for a wrong proof.

        The proof is an HMAC, since there are ciphertexts of ChaCha20-Poly1305 that more than one key
        opens. With those a false peer could try several words at once.
        """
        proof, sealed = body[:MAC_BYTES], body[MAC_BYTES:]
        if not hmac.compare_digest(proof, self.prove(kind, sealed)):
            return None
        try:
            return ChaCha20Poly1305(self._seals[kind]).decrypt(_NONCE, sealed, None)
        except InvalidTag:
            return None

    def prove(self, kind: Kind, sealed: bytes = b"") -> bytes:
        """The proof that this side has the keys."""
        return hmac.digest(self._proofs[kind], self._said + sealed, "sha256")


class Side:
    """What both sides have in common."""

    def __init__(self, words: Words, place: Place, stage: Stage, session: bytes) -> None:
        self.stage = stage
        #: What the peer must get next: send it when the stage changes, and again until an answer comes.
        self.packet: bytes | None = None
        #: Why it failed, in stage FAILED.
        self.reason: Reason | None = None
        self._password = " ".join(words).encode()
        self._place = place
        self._session = session
        self._keys: _Keys | None = None

    @property
    def check(self) -> Words:
        """The check words. Both ends have the same ones, unless somebody is in between."""
        assert self._keys is not None
        return self._keys.check

    def receive(self, packet: bytes) -> bytes | None:
        """Take a packet of the peer. Returns what to send at once."""
        try:
            message = parse(packet)
        except OtherVersion:
            if self.stage not in (Stage.WELCOMED, Stage.JOINED, Stage.FAILED):
                self.refuse(Reason.VERSION)
            return self.packet
        except RemoteProtocolError:
            return None
        return self._take(message)

    def refuse(self, reason: Reason) -> None:
        """End the pairing, and tell the peer why."""
        self.stage, self.reason = Stage.FAILED, reason
        self.packet = _refusal(self._session, reason)

    def _take(self, message: Message) -> bytes | None:
        if message.session != self._session:
            return None
        handler = self._handlers().get((self.stage, message.kind))
        if handler is None:
            return None
        handler(message)
        return self.packet

    def _handlers(self) -> Mapping[tuple[Stage, Kind], Callable[[Message], None]]:
        raise NotImplementedError

    def _go(self, stage: Stage, kind: Kind, body: bytes = b"") -> None:
        self.stage = stage
        self.packet = encode(Message(kind, self._session, body))


class Inviter(Side):
    """The server's side. In stage PROVEN it waits for its owner to call `welcome` or `refuse`."""

    #: The client's public key, from stage PROVEN on.
    client_key: bytes

    def __init__(self, words: Words, place: Place) -> None:
        super().__init__(words, place, Stage.WAITING, bytes(8))
        #: How often somebody began who knows the place, or began again.
        self.attempts = 0
        self._turned_away = self._session  # the last that came too late

    def welcome(self, tox_id: ToxId) -> None:
        """The client is let in: tell it the server's Tox ID."""
        assert self._keys is not None
        self._go(Stage.WELCOMED, Kind.WELCOME, self._keys.seal(Kind.WELCOME, tox_id.raw))

    def _take(self, message: Message) -> bytes | None:
        if message.kind is Kind.HELLO and message.session != self._session:
            return self._begin(message)
        return super()._take(message)

    def _begin(self, hello: Message) -> bytes | None:
        """A joiner is there, or has begun again. Nothing was told to it before its proof."""
        if self.stage not in (Stage.WAITING, Stage.COMMITTED, Stage.REVEALED):
            self.attempts += hello.session != self._turned_away
            self._turned_away = hello.session
            return _refusal(hello.session, Reason.OVER)
        self._session = hello.session
        self.attempts += 1
        if self.attempts > _MOST_SESSIONS:
            self.refuse(Reason.OVER)
            return self.packet
        ids = self._place.inviter_key, self._place.joiner_key
        self._spake = SPAKE2_A(self._password, *ids)
        self._reveal = Message(Kind.REVEAL, self._session, self._spake.start())
        self._commit = Message(Kind.COMMIT, self._session, _commitment(self._reveal))
        self._go(Stage.COMMITTED, Kind.COMMIT, self._commit.body)
        return self.packet

    def _handlers(self) -> Mapping[tuple[Stage, Kind], Callable[[Message], None]]:
        return {
            (Stage.COMMITTED, Kind.SHARE): self._shared,
            (Stage.REVEALED, Kind.PROOF): self._proven,
            (Stage.WELCOMED, Kind.DONE): self._done,
            (Stage.JOINED, Kind.DONE): self._done,  # BYE was lost
        }

    def _shared(self, share: Message) -> None:
        secret = _finish(self._spake, share)
        if secret is None:
            self.refuse(Reason.WRONG)
            return
        self._keys = _Keys(secret, self._place, self._commit, share, self._reveal)
        self._go(Stage.REVEALED, Kind.REVEAL, self._reveal.body)

    def _proven(self, proof: Message) -> None:
        assert self._keys is not None
        card = self._keys.open(Kind.PROOF, proof.body)
        if card is None or not is_possible_key(card):
            self.refuse(Reason.WRONG if card is None else Reason.FAILED)
            return
        self.client_key = card
        self.stage, self.packet = Stage.PROVEN, None

    def _done(self, done: Message) -> None:
        assert self._keys is not None
        if hmac.compare_digest(done.body, self._keys.prove(Kind.DONE)):
            self._go(Stage.JOINED, Kind.BYE)


class Joiner(Side):
    """The client's side. `key` is the client's public key, `session` 8 random bytes."""

    #: The server's Tox ID, from stage WELCOMED on.
    server: ToxId

    def __init__(self, words: Words, place: Place, key: bytes, session: bytes) -> None:
        super().__init__(words, place, Stage.CALLING, session)
        self._key = key
        self._go(Stage.CALLING, Kind.HELLO)

    def _handlers(self) -> Mapping[tuple[Stage, Kind], Callable[[Message], None]]:
        refused = dict.fromkeys(
            ((stage, Kind.REFUSED) for stage in (Stage.CALLING, Stage.SHARED, Stage.PROVEN)), self._refused
        )
        return refused | {
            (Stage.CALLING, Kind.COMMIT): self._committed,
            (Stage.SHARED, Kind.REVEAL): self._revealed,
            (Stage.PROVEN, Kind.WELCOME): self._welcomed,
            (Stage.WELCOMED, Kind.BYE): self._bye,
        }

    def _committed(self, commit: Message) -> None:
        ids = self._place.inviter_key, self._place.joiner_key
        self._spake = SPAKE2_B(self._password, *ids)
        self._commit = commit
        self._share = Message(Kind.SHARE, self._session, self._spake.start())
        self._go(Stage.SHARED, Kind.SHARE, self._share.body)

    def _revealed(self, reveal: Message) -> None:
        secret = None
        if hmac.compare_digest(self._commit.body, _commitment(reveal)):
            secret = _finish(self._spake, reveal)
        if secret is None:
            self.refuse(Reason.WRONG)
            return
        self._keys = _Keys(secret, self._place, self._commit, self._share, reveal)
        self._go(Stage.PROVEN, Kind.PROOF, self._keys.seal(Kind.PROOF, self._key))

    def _welcomed(self, welcome: Message) -> None:
        assert self._keys is not None
        card = self._keys.open(Kind.WELCOME, welcome.body)
        if card is None:
            self.refuse(Reason.WRONG)
            return
        try:
            self.server = parse_tox_id(card.hex())
        except ValueError:
            self.refuse(Reason.FAILED)
            return
        self._go(Stage.WELCOMED, Kind.DONE, self._keys.prove(Kind.DONE))

    def _bye(self, _: Message) -> None:
        self.stage, self.packet = Stage.JOINED, None

    def _refused(self, refusal: Message) -> None:
        try:
            self.reason = Reason(refusal.body[0])
        except ValueError:  # a reason of a later version
            self.reason = Reason.FAILED
        self.stage, self.packet = Stage.FAILED, None


def _refusal(session: bytes, reason: Reason) -> bytes:
    return encode(Message(Kind.REFUSED, session, bytes((reason,))))


def _commitment(reveal: Message) -> bytes:
    return sha256(_LABEL + reveal.session + reveal.body).digest()


def _finish(spake: SPAKE2_A | SPAKE2_B, message: Message) -> bytes | None:
    """The shared secret, 32 bytes; None for a message that no honest peer sends."""
    # spake2 0.9 takes the neutral element if it is spelt otherwise than usual.
    if not 1 < int.from_bytes(message.body[1:], "little") & (1 << 255) - 1 < _PRIME:
        return None
    try:
        return bytes(spake.finish(message.body))
    except (SPAKEError, NotOnCurve, ValueError):
        return None
