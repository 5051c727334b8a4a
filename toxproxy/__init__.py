"""toxproxy: a peer-to-peer tunnel over the Tox network.

Two machines find each other by public key, without a server in between, and carry any number
of TCP connections over one encrypted link.

This is the interface for programs; docs/library.md describes it. The names are loaded when they
are first used, so that `import toxproxy` needs no libtoxcore.

    import toxproxy

    async with toxproxy.Client(toxproxy.load_config("cfg.ini"), "state") as client:
        reader, writer = await client.open_connection("printer.lan", 80)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxproxy.address import Target, ToxId
    from toxproxy.app import Client, Server
    from toxproxy.config import Config
    from toxproxy.config import load as load_config
    from toxproxy.config import parse as parse_config
    from toxproxy.control.snapshots import PathKind, PeerState, Snapshot
    from toxproxy.errors import (
        ConfigError,
        Refusal,
        ResetCode,
        StateError,
        StreamError,
        StreamRefused,
        StreamReset,
        ToxproxyError,
    )
    from toxproxy.tunnel.tls import start_tls

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Config",
    "ConfigError",
    "PathKind",
    "PeerState",
    "Refusal",
    "ResetCode",
    "Server",
    "Snapshot",
    "StateError",
    "StreamError",
    "StreamRefused",
    "StreamReset",
    "Target",
    "ToxId",
    "ToxproxyError",
    "load_config",
    "parse_config",
    "start_tls",
]

_PLACES = {
    "Client": ("toxproxy.app", "Client"),
    "Config": ("toxproxy.config", "Config"),
    "PathKind": ("toxproxy.control.snapshots", "PathKind"),
    "PeerState": ("toxproxy.control.snapshots", "PeerState"),
    "Server": ("toxproxy.app", "Server"),
    "Snapshot": ("toxproxy.control.snapshots", "Snapshot"),
    "Target": ("toxproxy.address", "Target"),
    "ToxId": ("toxproxy.address", "ToxId"),
    "load_config": ("toxproxy.config", "load"),
    "parse_config": ("toxproxy.config", "parse"),
    "start_tls": ("toxproxy.tunnel.tls", "start_tls"),
}


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES.get(name, ("toxproxy.errors", name))
    return getattr(import_module(module), attribute)
