"""Which channel of the link a stream uses for its life.

Channel 0 is the session's. A new stream takes the least used of the others, so that as many
streams as there are channels never wait for one another's lost packets, and more still work.
"""

from __future__ import annotations


class Channels:
    """Counts the streams on each channel.

    Of the unused ones the one that was unused for longest comes first, so that a new stream
    seldom waits for a lost frame of the one before it. Where all are used, taking is a scan.
    """

    def __init__(self, count: int) -> None:
        self._load = [0] * count
        self._idle: dict[int, None] = dict.fromkeys(range(1, count))  # the unused ones, a queue

    def take(self) -> int:
        """The least used channel, with one stream more."""
        if self._idle:
            channel = next(iter(self._idle))
        else:
            channel = min(range(1, len(self._load)), key=self._load.__getitem__)
        self.share(channel)
        return channel

    def share(self, channel: int) -> None:
        """One stream more on this channel: the peer chose it for one of its own."""
        self._load[channel] += 1
        self._idle.pop(channel, None)

    def release(self, channel: int) -> None:
        """A stream on this channel is over."""
        self._load[channel] -= 1
        if not self._load[channel]:
            self._idle[channel] = None
