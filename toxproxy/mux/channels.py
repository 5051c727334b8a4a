"""Chooses the channel of the link that a stream uses from its opening to its end.

Channel 0 is for session frames. A new stream takes the least used of the other channels. While
there are no more streams than channels, none waits for another's lost packets; more streams share.
"""

from __future__ import annotations


class Channels:
    """Counts the streams on each channel.

    The channel that has been unused for longest is taken first, so that a new stream rarely waits
    for a lost frame of the stream before it. Once all are in use, `take` scans all of them.
    """

    def __init__(self, count: int) -> None:
        self._load = [0] * count
        self._idle: dict[int, None] = dict.fromkeys(range(1, count))  # the unused channels, as a queue

    def take(self) -> int:
        """Choose the least used channel and count a stream on it."""
        if self._idle:
            channel = next(iter(self._idle))
        else:
            channel = min(range(1, len(self._load)), key=self._load.__getitem__)
        self.share(channel)
        return channel

    def share(self, channel: int) -> None:
        """Count a stream on a channel that the peer chose."""
        self._load[channel] += 1
        self._idle.pop(channel, None)

    def release(self, channel: int) -> None:
        """A stream on this channel has ended."""
        self._load[channel] -= 1
        if not self._load[channel]:
            self._idle[channel] = None
