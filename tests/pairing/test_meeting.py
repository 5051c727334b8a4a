"""Pairings over a real Tox network on loopback.

Two ends need about ten seconds to find each other, so all meetings take place at the same time, each
with words of its own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.tox.pair import PRIVATE, Diary, bootstrapping_from
from toxproxy.address import ToxId, parse_tox_id
from toxproxy.config.settings import ToxSettings
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.pairing.exchange import Inviter, Joiner, Reason, Stage
from toxproxy.pairing.meeting import Absent, Joined, PairingFailed, Step, _Meeting, invite, join
from toxproxy.pairing.messages import Kind, Message, encode, parse
from toxproxy.pairing.place import Place, derive
from toxproxy.pairing.words import Words, word_list
from toxproxy.system.state import StateFolder
from toxproxy.tox.knock import KNOCK
from toxproxy.tox.node import Node

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SERVER = parse_tox_id("A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719")
KEY = SERVER.public_key
MEETING = 250.0  # seconds in which two ends find each other; it takes about ten where little else runs
LASTING = 12  # nodes of the network. With few, who looks for it finds mostly nodes that have just left
ALONE = 15.0  # seconds after which it is clear that nobody is there


@dataclass
class Scene:
    """One invitation and what became of it."""

    words: Words
    place: Place
    settings: ToxSettings
    asked: list[bytes] = field(default_factory=list)  # the keys that were to be let in
    steps: list[Step] = field(default_factory=list)

    async def admit(self, key: bytes) -> ToxId:
        self.asked.append(key)
        return SERVER

    async def invite(self, lifetime: float = 2 * MEETING, admit: object = None) -> Joined:
        how: Callable[[bytes], Awaitable[ToxId]] = admit or self.admit  # type: ignore[assignment]
        return await invite(self.words, self.place, self.settings, how, self.steps.append, lifetime)

    async def join(
        self, *, patience: float = MEETING, words: Words = (), place: Place | None = None
    ) -> Joined:
        return await join(
            words or self.words, place or self.place, self.settings, KEY, lambda _: None, patience
        )

    def stranger(self) -> _Meeting:
        """Somebody who knows the place, and is there as the joiner."""
        return _Meeting(self.place.joiner_secret, self.place.inviter_key, self.settings, lambda _: None)


Act = Callable[[Scene], Awaitable[list[object]]]


async def outcome(what: Awaitable[Joined]) -> object:
    """The result, or why there is none."""
    try:
        return await what
    except PairingFailed as failed:
        return failed.reason
    except ToxproxyError as error:
        return error


async def good(scene: Scene) -> list[object]:
    before = time.monotonic()
    both = list(await asyncio.gather(outcome(scene.invite()), outcome(scene.join())))
    took = time.monotonic() - before
    again = await outcome(scene.join(patience=ALONE))
    return [*both, took, again]


async def wrong_word(scene: Scene) -> list[object]:
    words = (*scene.words[:5], next(word for word in word_list() if word != scene.words[5]))
    return list(await asyncio.gather(outcome(scene.invite()), outcome(scene.join(words=words))))


async def wrong_place(scene: Scene) -> list[object]:
    """A wrong word among the first four, and then the right ones."""
    words = (next(word for word in word_list() if word != scene.words[0]), *scene.words[1:])
    other = await asyncio.to_thread(derive, words)
    inviting = asyncio.create_task(outcome(scene.invite()))
    first = await outcome(scene.join(words=words, place=other, patience=ALONE))
    for _ in range(4):  # a new node finds in ten seconds what one that began badly may not find in minutes
        second = await outcome(scene.join(patience=60))
        if not isinstance(second, Absent):
            break
    return [first, second, await inviting]


async def expired(scene: Scene) -> list[object]:
    return [await outcome(scene.invite(lifetime=0.5)), await outcome(scene.join(patience=ALONE))]


async def heard(stranger: _Meeting, into: list[Message]) -> None:
    while True:
        packet = await stranger._packets.get()
        if packet != KNOCK:  # nothing comes for a while, so the node knocks
            into.append(parse(packet))


async def stranger_without_a_proof(scene: Scene) -> list[object]:
    """Who knows the place and not the last words goes as far as he can without a proof, until it expires."""
    inviting = asyncio.create_task(outcome(scene.invite(lifetime=60)))
    side = Joiner(("abandon",) * 6, scene.place, KEY, b"stranger")
    came: list[Message] = []
    async with scene.stranger() as stranger:
        await asyncio.wait_for(stranger.met.wait(), MEETING)
        async with asyncio.timeout(MEETING):
            while side.stage is not Stage.SHARED:
                stranger.send(side.packet)
                packet = await stranger._packets.get()
                came.append(parse(packet))
                side.receive(packet)
            stranger.send(side.packet)
            for junk in (b"\xe2", b"\xe2" + bytes(500), encode(Message(Kind.BYE, b"stranger"))):
                stranger.send(junk)
        listening = asyncio.create_task(heard(stranger, came))
        result = await inviting
        for _ in range(100):
            if came[-1].kind is Kind.REFUSED:
                break
            await asyncio.sleep(0.1)
        listening.cancel()
    return [result, came]


async def taken_back(scene: Scene) -> list[object]:
    """The inviter is interrupted while somebody is there."""
    inviting = asyncio.create_task(scene.invite())
    came: list[Message] = []
    async with scene.stranger() as stranger:
        await asyncio.wait_for(stranger.met.wait(), MEETING)
        stranger.send(encode(Message(Kind.HELLO, b"stranger")))
        listening = asyncio.create_task(heard(stranger, came))
        while not came:
            await asyncio.sleep(0.05)
        inviting.cancel()
        await asyncio.wait([inviting])
        await asyncio.sleep(1)
        listening.cancel()
    return [inviting.cancelled(), came[-1]]


async def not_let_in(scene: Scene) -> list[object]:
    async def fail(key: bytes) -> ToxId:
        raise StateError("the disk is full")

    return list(await asyncio.gather(outcome(scene.invite(admit=fail)), outcome(scene.join())))


async def false_inviter(scene: Scene) -> list[object]:
    """Somebody who knows the place and not the last words waits there as the inviter."""
    false = Inviter((*scene.words[:4], "abandon", "abandon"), scene.place)
    joining = asyncio.create_task(outcome(scene.join()))
    place = scene.place
    async with _Meeting(place.inviter_secret, place.joiner_key, scene.settings, lambda _: None) as stranger:
        async with asyncio.timeout(MEETING):
            await stranger.run(false, {Stage.REVEALED})
            while not joining.done():
                stranger.send(encode(Message(Kind.WELCOME, false._session, bytes(86))))
                await asyncio.sleep(0.2)
    return [await joining]


ACTS: tuple[Act, ...] = (
    good,
    wrong_word,
    wrong_place,
    expired,
    stranger_without_a_proof,
    taken_back,
    not_let_in,
    false_inviter,
)


@dataclass
class Played:
    scene: Scene
    results: list[object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(folder: Path) -> AsyncIterator[dict[Act, Played]]:
    """Every act, and what came of it."""
    (folder / "tmp").mkdir()
    patch = pytest.MonkeyPatch()
    patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    async with AsyncExitStack() as stack:

        async def node(name: str, settings: ToxSettings) -> Node:
            return await stack.enter_async_context(Node(settings, StateFolder(folder / name), name, Diary()))

        first = await node("first", PRIVATE)
        settings = bootstrapping_from(first)
        for number in range(LASTING - 1):
            await node(f"lasting-{number}", settings)
        scenes = {}
        for number, act in enumerate(ACTS):
            words = (*word_list()[100 * number : 100 * number + 5], "zone")
            scenes[act] = Scene(words, await asyncio.to_thread(derive, words), settings)
        results = await asyncio.gather(*(act(scene) for act, scene in scenes.items()))
        patch.undo()
        yield {
            act: Played(scene, result) for (act, scene), result in zip(scenes.items(), results, strict=True)
        }


async def test_the_two_ends_find_each_other_and_exchange_their_keys(played: dict[Act, Played]) -> None:
    scene = played[good].scene
    invited, joined, took, _ = played[good].results
    assert isinstance(invited, Joined)
    assert isinstance(joined, Joined)
    assert invited == joined
    assert (joined.server, invited.client, joined.confirmed) == (SERVER, KEY, True)
    assert scene.asked == [KEY]
    assert scene.steps[-1] is Step.MET or scene.steps[-2] is Step.MET
    assert isinstance(took, float)
    assert took < MEETING


async def test_words_that_were_used_find_nobody(played: dict[Act, Played]) -> None:
    again = played[good].results[-1]
    assert isinstance(again, Absent)
    assert not again.met


async def test_one_wrong_word_of_the_last_two_ends_the_invitation_and_both_ends_know(
    played: dict[Act, Played],
) -> None:
    assert played[wrong_word].results == [Reason.WRONG, Reason.WRONG]
    assert played[wrong_word].scene.asked == []


async def test_one_wrong_word_of_the_first_four_meets_nobody_and_does_not_use_up_the_invitation(
    played: dict[Act, Played],
) -> None:
    first, second, invited = played[wrong_place].results
    assert isinstance(first, Absent)
    assert not first.met
    assert isinstance(second, Joined)
    assert second == invited


async def test_an_invitation_that_nobody_took_expires(played: dict[Act, Played]) -> None:
    reason, late = played[expired].results
    assert reason is Reason.EXPIRED
    assert isinstance(late, Absent)
    assert not late.met


async def test_who_knows_the_place_alone_learns_nothing_and_lets_the_invitation_expire(
    played: dict[Act, Played],
) -> None:
    reason, came = played[stranger_without_a_proof].results
    assert reason is Reason.EXPIRED
    assert played[stranger_without_a_proof].scene.asked == []
    assert isinstance(came, list)
    kinds = {message.kind for message in came}
    assert kinds == {Kind.COMMIT, Kind.REVEAL, Kind.REFUSED}
    assert came[-1].body == bytes((Reason.EXPIRED,))


async def test_an_inviter_that_is_interrupted_says_so_to_who_is_there(played: dict[Act, Played]) -> None:
    cancelled, last = played[taken_back].results
    assert cancelled
    assert isinstance(last, Message)
    assert (last.kind, last.body) == (Kind.REFUSED, bytes((Reason.CANCELLED,)))


async def test_a_client_that_could_not_be_let_in_is_told(played: dict[Act, Played]) -> None:
    invited, joined = played[not_let_in].results
    assert isinstance(invited, StateError)
    assert joined is Reason.FAILED


async def test_a_false_inviter_is_found_out(played: dict[Act, Played]) -> None:
    assert played[false_inviter].results == [Reason.WRONG]


async def test_an_end_that_met_nobody_begins_again_with_a_new_node_of_the_same_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    secret, steps = bytes(range(32)), list[Step]()
    async with _Meeting(secret, KEY, PRIVATE, steps.append) as meeting:
        before = meeting._node
        await meeting.find([0.1, 0.1])
        after = meeting._node
        assert steps.count(Step.AGAIN) == 2
        assert after.public_key == before.public_key
        assert after.dht_key != before.dht_key
        assert len(os.listdir(tmp_path)) == 1


async def test_nothing_is_left_of_the_throw_away_identities(folder: Path, played: dict[Act, Played]) -> None:
    assert all(play.results for play in played.values())
    assert os.listdir(folder / "tmp") == []
