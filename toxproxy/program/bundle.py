"""The file of `toxproxy doctor --bundle`: for a bug report, so it holds nothing that is secret. Pure.

It is made of numbers and words of this program. Names, targets, addresses, keys and their words, paths and
texts from elsewhere are left out; they are not searched for and replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toxproxy.config.settings import Config
from toxproxy.control.checks import Check, verdict
from toxproxy.control.encoding import encoded
from toxproxy.control.snapshots import Snapshot

#: The only fields of a snapshot whose texts are written: Enums, versions.
_TEXTS = frozenset(
    {"role", "version", "libtoxcore_version", "libtoxcore_advice", "state", "path", "kind", "phase"}
    | {"relay_reason", "protocol", "failure"}
)


def bundle(
    checks: Sequence[Check], snapshot: Snapshot | None, config: Config | None, machine: Mapping[str, str]
) -> Iterator[str]:
    """The lines of the file. `machine` holds versions."""
    worst = verdict(checks)
    yield "toxproxy doctor: no keys, IDs, secrets, names, addresses or paths are in this file."
    yield ""
    yield f"verdict: {worst.fault.value if worst is not None and worst.fault is not None else 'healthy'}"
    yield ""
    yield from (f"{name}: {value}" for name, value in machine.items())
    yield ""
    for check in checks:
        fault = "" if check.fault is None else f" {check.fault.value}"
        value = "" if check.value is None else f" {check.value:g}"
        yield f"{check.kind.value}: {check.outcome.value}{fault}{value}"
    if config is not None:
        yield ""
        yield "configuration: " + json.dumps(_shape(config))
    if snapshot is not None:
        yield ""
        yield "snapshot: " + json.dumps(_bare(encoded(snapshot)), indent=1)


def _bare(value: Any, name: str = "") -> Any:
    """A JSON value with the texts left out that `_TEXTS` does not name."""
    if isinstance(value, dict):
        return {key: _bare(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if isinstance(value, str):
        return value if name in _TEXTS else "..."
    return value


def _shape(config: Config) -> dict[str, Any]:
    """What a configuration has, in numbers."""
    access, tox, limits = config.access, config.tox, config.limits
    return {
        "forwards": len(config.forwards),
        "proxies": len(config.proxies),
        "servers": len(config.servers),
        "uncompressed": len(config.uncompressed),
        "secret": access.secret is not None,
        "secrets": len(config.secrets),
        "allow": len(access.allow),
        "anyone": access.anyone,
        "permit": None if access.permit is None else len(access.permit),
        "deny": len(access.deny),
        "clients": len(config.clients),
        "upstream": config.exit.upstream is not None,
        "connect_timeout_s": config.exit.connect_timeout,
        "bootstrap": None if tox.bootstrap is None else len(tox.bootstrap),
        "udp": tox.udp,
        "ports": list(tox.ports),
        "tcp_relay": tox.tcp_relay != 0,
        "local_discovery": tox.local_discovery,
        "tox_proxy": None if tox.proxy is None else tox.proxy.kind,
        "wait_s": tox.wait,
        "grace_s": tox.grace,
        "maps_port": tox.maps_port,
        "streams": limits.streams,
        "connections": limits.connections,
        "memory_bytes": limits.memory,
    }
