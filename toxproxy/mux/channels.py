"""Which channel of the link a stream uses for its life.

Channel 0 is the session's. A new stream takes the least used of the others, so that as many
streams as there are channels never wait for one another's lost packets, and more still work.
"""

from __future__ import annotations


class Channels:
    """Counts the streams on each channel.

    Taking and releasing is O(1) while fewer streams than channels live, and a scan otherwise.
    """

    def __init__(self, count: int) -> None:
        self._load = [0] * count
        self._idle = list(range(count - 1, 0, -1))  # a stack of channels that may be unused

    def take(self) -> int:
        """The least used channel, with one stream more."""
        while self._idle:
            channel = self._idle.pop()
            if not self._load[channel]:
                self._load[channel] = 1
                return channel
        channel = min(range(1, len(self._load)), key=self._load.__getitem__)
        self._load[channel] += 1
        return channel

    def share(self, channel: int) -> None:
        """The peer put a stream of its own on this channel."""
        self._load[channel] += 1

    def release(self, channel: int) -> None:
        """A stream on this channel is over."""
        self._load[channel] -= 1
        if not self._load[channel]:
            self._idle.append(channel)
