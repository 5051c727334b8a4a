"""The router's port in a sentence. Pure."""

from __future__ import annotations

from toxproxy.control.snapshots import MappingSnapshot
from toxproxy.mapping.grant import Failure, Progress

_FAILURES = {
    Failure.REFUSED: "refuses",
    Failure.TAKEN: "says that the port is taken",
    Failure.NONSENSE: "answers nonsense",
    Failure.UNSUPPORTED: "does not support that",
    Failure.UNREACHABLE: "does not speak PCP, NAT-PMP or UPnP",
    Failure.SILENT: "does not answer by PCP, NAT-PMP or UPnP",
}


def router_line(mapping: MappingSnapshot | None) -> str:
    """The router's port, or why there is none."""
    if mapping is None:
        return "router: not asked for a port ([tox] port_mapping)"
    match mapping.state:
        case Progress.MAPPED:
            note = "" if mapping.public else "; that is not public: another NAT is in front of it"
            where = f"{mapping.external_address}:{mapping.external_port}"
            by = mapping.protocol.value if mapping.protocol is not None else "?"
            return f"router: its UDP port {where} leads here, by {by}{note}"
        case Progress.ASKING:
            return "router: asked for a port, no answer yet"
        case Progress.NO_ROUTER:
            return "router: there is none to ask for a port"
        case Progress.NOT_NEEDED:
            return "router: none is needed, this machine has a public address"
    failure = mapping.failure or Failure.SILENT
    by = ""
    if mapping.protocol is not None and failure not in (Failure.SILENT, Failure.UNREACHABLE):
        by = f" (by {mapping.protocol.value})"
    return f"router: it leads no port here: it {_FAILURES[failure]}{by}"
