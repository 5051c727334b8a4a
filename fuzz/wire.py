"""Targets: the contents of single frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from fuzz.choices import Choices
from fuzz.peer import any_frame, damaged, packed
from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import HISTORY, Decompressor
from toxproxy.mux.replay import Replay

_INEXACT = (frames.Hello, frames.GoAway, frames.Refused)  # their tail is ignored or cleaned


def frame(data: bytes) -> None:
    """A message is the peer's error, or a frame that is encoded to the same bytes again."""
    for message in (data, any_frame(Choices(data))):
        try:
            read = frames.decode(message)
        except RemoteProtocolError:
            continue
        written = frames.encode(read)
        again = frames.decode(written)
        assert type(again) is type(read)
        if isinstance(read, (frames.GoAway, frames.Refused)):
            assert read.text.isprintable()
            assert read.text.startswith(again[-1])  # type: ignore[arg-type]
        else:
            assert again == read
        assert len(written) <= frames.MAX_FRAME
        assert written == message or isinstance(read, _INEXACT)


def block(data: bytes) -> None:
    """A block is the peer's error, or holds as many bytes as declared. Valid blocks are never refused."""
    choices, reader, history = Choices(data), Decompressor(), b""
    while choices:
        raw = (choices.chunk(255) or b"\0") * (1 + choices.integer(255))
        good = packed(raw, history)
        message = choices.chunk(300) if choices.integer(3) == 1 else damaged(choices, good)
        length = choices.pick((len(raw), 1, frames.MAX_RAW, 1 + choices.integer(frames.MAX_RAW - 1)))
        intact = message == good and length == len(raw)
        try:
            read = reader.unpack(message, length)
        except RemoteProtocolError:
            assert not intact, "a good block was refused"
        else:
            assert len(read) == length
            assert read == raw or not intact
            history = (history + read)[-HISTORY:]


@dataclass
class _Channel:
    """What the target knows of a channel."""

    sent: list[bytes] = field(default_factory=list)
    acknowledged: int = 0
    received: int = 0


def counts(data: bytes) -> None:
    """A peer's counts are possible or its error. Frames that it has not received are kept in order."""
    choices, replay = Choices(data), Replay()
    channels: defaultdict[int, _Channel] = defaultdict(_Channel)
    while choices:
        channel = choices.pick((0, 1, 2, 254))
        known = channels[channel]
        match choices.integer(4):
            case 0:
                known.sent.append(choices.chunk(40))
                replay.sent(channel, known.sent[-1])
            case 1:
                known.received += 1
                replay.received(channel)
            case 2:
                said = dict(replay.acknowledgement().counts)
                assert all(channels[number].received == count for number, count in said.items())
            case 3:
                said = dict(replay.resumption(1, 2).counts)
                assert said == {number: each.received for number, each in channels.items() if each.received}
            case _:
                if not _say(choices, replay, channels):
                    return
        _check(replay, channels)


def _say(choices: Choices, replay: Replay, channels: dict[int, _Channel]) -> bool:
    """Take an ACK or RESUME of the peer. False if it ends the session."""
    likely = [count for each in channels.values() for count in (each.acknowledged, len(each.sent))]
    try:
        said = frames.decode(any_frame(choices, likely))
    except RemoteProtocolError:
        return True
    if not isinstance(said, (frames.Ack, frames.Resume)):
        return True
    named = dict(said.counts)
    if isinstance(said, frames.Resume):
        named |= dict.fromkeys(channels.keys() - named.keys(), 0)
    possible = all(
        channels[number].acknowledged <= count <= len(channels[number].sent)
        for number, count in named.items()
    )
    try:
        (replay.resumed if isinstance(said, frames.Resume) else replay.acknowledged)(said.counts)
    except RemoteProtocolError:
        assert not possible
        return False
    assert possible
    for number, count in named.items():
        channels[number].acknowledged = count
    return True


def _check(replay: Replay, channels: dict[int, _Channel]) -> None:
    waiting: defaultdict[int, list[bytes]] = defaultdict(list)
    for channel, message in replay.unacknowledged():
        waiting[channel].append(message)
    for channel, known in channels.items():
        assert waiting[channel] == known.sent[known.acknowledged :]
    least = sum(len(message) for messages in waiting.values() for message in messages)
    assert least <= replay.kept
    assert bool(replay.kept) is any(waiting.values())
