"""When libtoxcore would put a relay to sleep that is in use."""

from __future__ import annotations


class SleepCounts:
    """Follows how friends are connected, to see when relays have to be connected anew.

    libtoxcore closes a relay once all friends on it are direct, but not within the first ten seconds. It
    counts them (`sleep_count` in TCP_connection.c), and forgets to count down when one is direct no more
    (`set_tcp_connection_to_status`, 0.2.12 to 0.2.22). So it closes the relay while that friend needs it,
    and the friend is not heard for half a minute. A new connection begins to count anew.
    """

    def __init__(self) -> None:
        self._direct: set[int] = set()
        self._relayed: set[int] = set()
        self._returned: set[int] = set()  # relayed now, and counted as direct

    def changed(self, friend: int, *, direct: bool = False, relayed: bool = False) -> bool:
        """A friend is connected otherwise now. Returns whether relays have to be connected anew.

        They have to be when all friends that use them are counted as direct.
        """
        if relayed and friend in self._direct:
            self._returned.add(friend)
        elif not relayed:
            self._returned.discard(friend)
        for group, belongs in ((self._direct, direct), (self._relayed, relayed)):
            (group.add if belongs else group.discard)(friend)
        if not self._returned or not self._relayed <= self._returned:
            return False
        self._returned.clear()
        return True
