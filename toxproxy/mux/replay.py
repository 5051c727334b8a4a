"""The frames that must be sent again on the next link if this one is lost.

A link delivers the frames of a channel in order and once. So the number of frames received on each
channel tells which ones are missing. It counts from the beginning of the session, through all of
its links (SPEC.md, section 8).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.limits import Limits
from toxproxy.mux.window import Allotment

_OVERHEAD = 128  # bytes of memory for each frame kept, beside its contents


class Replay:
    """Keeps the frames sent until the peer acknowledges them, and counts the frames received."""

    def __init__(self, memory: Allotment | None = None) -> None:
        self._memory = memory or Allotment(Limits())
        self._kept: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self._acknowledged: defaultdict[int, int] = defaultdict(int)  # how many frames the peer has confirmed
        self._received: defaultdict[int, int] = defaultdict(int)
        self._news: set[int] = set()  # channels with frames that were not acknowledged to the peer yet

    @property
    def kept(self) -> int:
        """Bytes of memory in use."""
        return self._memory.kept

    def sent(self, channel: int, frame: bytes) -> None:
        """Keep a frame that is sent for the first time."""
        self._kept[channel].append(frame)
        self._memory.keep(len(frame) + _OVERHEAD)

    def received(self, channel: int) -> None:
        """Count a frame that came."""
        self._received[channel] += 1
        self._news.add(channel)

    def acknowledgement(self) -> frames.Ack:
        """An ACK for all channels on which frames came since the last one."""
        counts = self._counts(self._news)
        self._news.clear()
        return frames.Ack(counts)

    def resumption(self, client: int, server: int) -> frames.Resume:
        """A RESUME with the counts of all channels, for the session with these two ids."""
        self._news.clear()
        return frames.Resume(client, server, self._counts(self._received))

    def acknowledged(self, counts: frames.Counts) -> None:
        """Drop the frames that an ACK confirms.

        Raises `RemoteProtocolError` for more frames than were sent, or fewer than before.
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
        """As `acknowledged`, for a RESUME: on a channel that it does not name, the peer received nothing."""
        named = dict(counts)
        self.acknowledged(
            tuple((channel, named.get(channel, 0)) for channel in self._kept.keys() | named.keys())
        )

    def unacknowledged(self) -> Iterator[tuple[int, bytes]]:
        """The frames to send again, as (channel, frame). Channels take turns; each keeps its order."""
        channels = {channel: iter(kept) for channel, kept in sorted(self._kept.items())}
        while channels:
            for channel, kept in list(channels.items()):
                if (frame := next(kept, None)) is not None:
                    yield channel, frame
                else:
                    del channels[channel]

    def _counts(self, channels: set[int] | defaultdict[int, int]) -> frames.Counts:
        return tuple((channel, self._received[channel]) for channel in sorted(channels))
