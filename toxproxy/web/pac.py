"""The file that tells a browser which proxy to use (proxy auto-config). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from toxproxy.address import join_host_port, split_fields
from toxproxy.control.snapshots import ListenerKind, ListenerSnapshot

_EVERYWHERE = ("0.0.0.0", "::")

_TEXT = """\
function FindProxyForURL(url, host) {{
  if (isPlainHostName(host) || host === "[::1]" || shExpMatch(host, "127.*")) return "DIRECT";
  return "{proxies}";
}}
"""


def proxies(listeners: Iterable[ListenerSnapshot], asked_host: str) -> str:
    """The script for the proxy ports among `listeners`, the first one first; DIRECT where there is none.

    A port on every address of this machine is reached at the one where this file was asked for.
    """
    entries = []
    for listener in listeners:
        if listener.kind is ListenerKind.PROXY:
            host, port = split_fields(listener.address)
            where = join_host_port(asked_host if host in _EVERYWHERE else host, int(port))
            entries += [f"SOCKS5 {where}", f"PROXY {where}"]
    return _TEXT.format(proxies="; ".join(entries) or "DIRECT")
