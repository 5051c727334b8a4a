"""Target: what a friend tells beside the tunnel, where its node is and which relays it is connected to."""

from __future__ import annotations

from contextlib import suppress

from toxproxy.tox import relay_list, whereabouts


def friend(data: bytes) -> None:
    """A packet is one of the two, or an error. What was understood is written again as it was."""
    with suppress(ValueError):
        where = whereabouts.parse(data)
        assert len(where.places) <= whereabouts.MOST
        assert whereabouts.parse(where.packet()) == where
        assert where.packet()[35:] == data[35:]  # behind the flags, of which one counts
    with suppress(ValueError):
        relays = relay_list.parse_relays(data)
        assert 1 <= len(relays) <= relay_list.MOST
        assert relay_list.relay_packet(relays) == data
