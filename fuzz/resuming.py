"""Target: a session on a durable link whose links fail and whose peer is hostile."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable

from fuzz import scene
from fuzz.choices import Choices
from fuzz.multiplexer import CHANNELS, LIMITS
from fuzz.peer import any_frame, damaged
from toxproxy.address import Target
from toxproxy.errors import RemoteProtocolError, StreamRefused
from toxproxy.link.base import LinkEnd
from toxproxy.mux import frames
from toxproxy.relay.half import Half
from toxproxy.tunnel.durable import MOST_KEPT, DurableLink, LinkState
from toxproxy.tunnel.events import Loss, SessionEnd
from toxproxy.tunnel.session import Session

_MOVES_MOST = 200
_PEER = 77  # the peer's session id
_OURS = (frames.Resume, frames.Ack)


def resume(data: bytes) -> None:
    """When links fail, RESUME comes first on each, and an honest peer gets every frame once and in order."""
    scene.run(Game(Choices(data)).play())


class _Line:
    """A link whose frames arrive at once. It checks that the frames come in a valid order."""

    channels = CHANNELS
    frame_size = 200

    def __init__(self, game: Game, *, first: bool) -> None:
        self.room = game.choices.pick((1000, 20, 200))
        self.closed = False
        self._game = game
        self._silent = not first  # RESUME must come before anything else

    def budget(self) -> int:
        return self.room

    def send(self, channel: int, frame: bytes) -> None:
        assert not self.closed
        read = frames.decode(frame)
        if self._silent or self._game.durable.state is not LinkState.HERE:
            assert isinstance(read, (frames.GoAway, frames.Resume if self._silent else _OURS))
        else:
            assert not isinstance(read, frames.Resume)
        self._silent = False
        if isinstance(read, _OURS):
            said = dict(read.counts)
            assert said == {each: self._game.given[each] for each in said}
            assert isinstance(read, frames.Ack) or said.keys() == self._game.given.keys()
        self.room -= len(frame)
        if not isinstance(read, _OURS):
            self._game.arrived(channel, frame)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class _Noted(DurableLink):
    """Records every frame that the session sends."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, lambda _: None)
        self.log: defaultdict[int, list[bytes]] = defaultdict(list)  # frames, by channel

    def send(self, channel: int, frame: bytes) -> None:
        self.log[channel].append(frame)
        super().send(channel, frame)


class Game:
    """A session, its successive links, and what its peer has received."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.client = bool(choices.integer(1))
        self.ended: list[SessionEnd] = []
        self.honest = True  # whether the peer's counts have always been true
        self.given: Counter[int] = Counter()  # frames sent by the peer that SPEC.md counts, by channel
        self.got: Counter[int] = Counter()  # frames that the peer has received, by channel
        self.acknowledged: Counter[int] = Counter()  # how many of these it has acknowledged

    async def play(self) -> None:
        self.durable = _Noted()
        self.session = Session(self.durable, client=self.client, limits=LIMITS, on_end=self.ended.append)
        self.durable.start(self.session)
        self.begin()
        if self.choices.integer(7):
            self.greet()
        moves = 0
        while self.choices and not self.ended and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            moves += 1
            self.check()
            await asyncio.sleep(0)
        self.durable.expire(Loss.EXPIRED)
        assert len(self.ended) == 1
        assert self.line.closed or self.durable.state is LinkState.AWAY
        await asyncio.sleep(0)

    # Links

    def begin(self) -> None:
        """Begin the next link. The client sends first."""
        first = self.session.identity is None
        self.line = _Line(self, first=first)
        self.durable.attach(self.line)
        if first or self.client:
            self.durable.link_up()
        else:
            self.meet()

    def cut(self) -> None:
        """The link fails. The last frames on it are lost."""
        if self.durable.state is LinkState.AWAY:
            self.begin()
            return
        lost = self.choices.integer(3)
        for channel in self.got:
            self.got[channel] = max(self.got[channel] - lost, self.acknowledged[channel])
        self.line.closed = True  # a link that failed takes no frames
        self.durable.link_down(LinkEnd.SILENT)

    def arrived(self, channel: int, frame: bytes) -> None:
        """One frame arrives at the peer."""
        if self.honest and not self.session._multiplexer.closed:  # GOAWAY may overtake
            assert self.got[channel] < len(self.durable.log[channel]), "more frames than the session sent"
            assert frame == self.durable.log[channel][self.got[channel]], "another frame than the next"
        self.got[channel] += 1

    def grow(self) -> None:
        """The budget grows; `link_ready` has not been called yet."""
        self.line.room = self.choices.integer(2000)

    def ready(self) -> None:
        self.grow()
        if self.durable.state is not LinkState.AWAY:
            self.durable.link_ready()

    # The peer

    def hear(self, channel: int, frame: bytes) -> None:
        if self.durable.state is LinkState.AWAY:
            return
        if channel or (frame[:1] not in (b"\x05", b"\x06") and self.durable.state is LinkState.HERE):
            self.given[channel] += 1
        self.durable.frame_received(channel, frame)

    def greet(self) -> None:
        self.hear(0, frames.encode(frames.Hello(1, 1, _PEER, 0, 64, 4)))
        if not self.client:
            self.hear(0, frames.encode(frames.Ping(0)))

    def anything(self) -> None:
        likely = (1, 2, 3, *(self.session.identity or ()), *self.got.values())
        frame = any_frame(self.choices, likely)
        self.honest = self.honest and frame[:1] not in (b"\x05", b"\x06")
        self.hear(self.choices.integer(CHANNELS - 1), frame)

    def ask(self) -> None:
        """Open a stream, which is refused, or send a PING."""
        number = 2 * self.choices.integer(20) + 1 + self.client
        questions: tuple[frames.Frame, ...] = (
            frames.Ping(sum(self.given.values())),  # a different value each time
            frames.Open(number, frames.TCP, 64, 80, "a"),
        )
        asked = self.choices.pick(questions)
        self.hear(0 if isinstance(asked, frames.Ping) else 1, frames.encode(asked))

    def acknowledge(self) -> None:
        if self.durable.state is LinkState.HERE:
            self._say(frames.Ack(self._counts()))

    def meet(self) -> None:
        if self.durable.state is LinkState.MEETING and (ids := self.session.identity) is not None:
            self._say(frames.Resume(*ids, self._counts()))

    def _say(self, frame: frames.Ack | frames.Resume) -> None:
        message = frames.encode(frame)
        said = damaged(self.choices, message)
        self.honest = self.honest and said == message
        self.acknowledged.update(self.got - self.acknowledged)
        if isinstance(frame, frames.Ack) or self.client:
            self.hear(0, said)
            return
        try:
            read = frames.decode(said)
            if isinstance(read, frames.Resume):
                self.durable.resume(read)
        except RemoteProtocolError as error:
            self.session.broken(error)

    def _counts(self) -> frames.Counts:
        return tuple((channel, count) for channel, count in sorted(self.got.items()) if count)

    # The application

    def open(self) -> None:
        if self.session.established:
            dialling = self.session.dial(Half, Target("host.example", 80), early=True)
            try:
                dialling.send(None)  # with `early` the first step does not wait
            except StopIteration as done:
                transport, _ = done.value
                transport.write(bytes(self.choices.integer(500)))
                if self.choices.integer(1):
                    transport.close()
            except StreamRefused:
                pass

    def check(self) -> None:
        if self.durable.state is not LinkState.HERE:
            assert self.durable.budget() <= 0
        assert self.durable._replay.kept <= MOST_KEPT
        if self.ended:
            assert len(self.ended) == 1
            assert self.line.closed


MOVES: tuple[Callable[[Game], None], ...] = (
    Game.anything,
    Game.ask,
    Game.acknowledge,
    Game.cut,
    Game.cut,
    Game.meet,
    Game.grow,
    Game.ready,
    Game.ready,
    Game.open,
)
