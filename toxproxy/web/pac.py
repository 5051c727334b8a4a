"""The file that tells a browser which proxy to use (proxy auto-config), for whoever asks for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from toxproxy.address import is_unix, join_host_port, split_fields
from toxproxy.control.snapshots import ListenerKind, ListenerSnapshot
from toxproxy.routing.pac import script
from toxproxy.routing.routes import Routes

_EVERYWHERE = ("0.0.0.0", "::")


def proxies(
    listeners: Iterable[ListenerSnapshot],
    asked_host: str,
    routes: Routes | None = None,
    own: Collection[str] = (),
) -> str:
    """The script for the proxy ports among `listeners`; see `script`.

    A port on every address of this machine is reached at the one where this file was asked for. The ports
    that are named in `own` do not go by `routes`, and are left out.
    """
    places = []
    for listener in listeners:
        if listener.kind is ListenerKind.PROXY and not is_unix(listener.address) and listener.name not in own:
            host, port = split_fields(listener.address)
            places.append(join_host_port(asked_host if host in _EVERYWHERE else host, int(port)))
    return script(places, routes or Routes())
