"""What of a session would be lost with its link: frames that the peer has not said it has.

A link delivers the frames of a channel in order and once, so a count for each channel says
everything: whoever knows how many the peer has, knows which are missing. Counts run from the
session's beginning, through all of its links.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.limits import Limits
from toxproxy.mux.window import Allotment

_OVERHEAD = 128  # bytes of memory that a kept frame costs beyond its own


class Replay:
    """Keeps one side's frames until they are acknowledged, and counts the other's."""

    def __init__(self, memory: Allotment | None = None) -> None:
        self._memory = memory or Allotment(Limits())
        self._kept: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self._acknowledged: defaultdict[int, int] = defaultdict(int)  # frames before those kept
        self._received: defaultdict[int, int] = defaultdict(int)
        self._news: set[int] = set()  # channels whose count the peer does not know

    @property
    def kept(self) -> int:
        """Bytes of memory."""
        return self._memory.kept

    def sent(self, channel: int, frame: bytes) -> None:
        """A frame goes out for the first time."""
        self._kept[channel].append(frame)
        self._memory.keep(len(frame) + _OVERHEAD)

    def received(self, channel: int) -> None:
        """A frame came in."""
        self._received[channel] += 1
        self._news.add(channel)

    def acknowledgement(self) -> frames.Ack:
        """What came since the last one."""
        counts = self._counts(self._news)
        self._news.clear()
        return frames.Ack(counts)

    def resumption(self, client: int, server: int) -> frames.Resume:
        """What came at all, for the session with these two ids."""
        self._news.clear()
        return frames.Resume(client, server, self._counts(self._received))

    def acknowledged(self, counts: frames.Counts) -> None:
        """The peer has so many frames.

        Raises `RemoteProtocolError` for more than were sent, or fewer than before.
        """
        for channel, count in counts:
            known = self._acknowledged[channel]
            most = known + len(self._kept[channel])
            if not known <= count <= most:
                raise RemoteProtocolError(
                    f"acknowledgement of {count} frames on channel {channel}, expected {known} to {most}"
                )
        for channel, count in counts:
            kept = self._kept[channel]
            for _ in range(count - self._acknowledged[channel]):
                self._memory.keep(-len(kept.popleft()) - _OVERHEAD)
            self._acknowledged[channel] = count

    def resumed(self, counts: frames.Counts) -> None:
        """As `acknowledged`; the peer has none on the channels that it does not name."""
        named = dict(counts)
        self.acknowledged(
            tuple((channel, named.get(channel, 0)) for channel in self._kept.keys() | named.keys())
        )

    def unacknowledged(self) -> Iterator[tuple[int, bytes]]:
        """What is to be sent again, as (channel, frame): the channels take turns, each in its order."""
        channels = {channel: iter(kept) for channel, kept in sorted(self._kept.items())}
        while channels:
            for channel, kept in list(channels.items()):
                if (frame := next(kept, None)) is not None:
                    yield channel, frame
                else:
                    del channels[channel]

    def _counts(self, channels: set[int] | defaultdict[int, int]) -> frames.Counts:
        return tuple((channel, self._received[channel]) for channel in sorted(channels))
