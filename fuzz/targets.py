"""All targets by name. The name is also that of the target's folder in the corpus.

A target takes any bytes and raises only for a bug.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz import (
    behind,
    files,
    friends,
    links,
    listening,
    multiplexer,
    near,
    pairing,
    path,
    recovery,
    router,
    routes,
    sessions,
    streams,
    udp,
    wire,
)

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "frame": wire.frame,
    "block": wire.block,
    "parts": wire.parts,
    "client": multiplexer.client,
    "server": multiplexer.server,
    "streams": streams.streams,
    "recovery": recovery.recovery,
    "sender": recovery.sender,
    "path": path.path,
    "session": sessions.session,
    "filter": behind.filtered,
    "enet": behind.enet,
    "packets": links.packets,
    "links": links.links,
    "assembly": udp.assembly,
    "socksudp": udp.socks_udp,
    "socks": near.socks,
    "http": near.http,
    "proxy": near.proxy,
    "config": files.config,
    "clients": files.clients,
    "identity": files.identity,
    "routes": routes.routes,
    "listen": listening.listen,
    "told": listening.told_addresses,
    "friend": friends.friend,
    "control": files.control,
    "pcp": router.pcp_answer,
    "natpmp": router.nat_pmp_answer,
    "upnp": router.upnp_answer,
    "words": pairing.words,
    "pairing": pairing.pairing,
}
MOST_BYTES = 4096  # the longest input
