"""Checks in sentences: what `toxproxy doctor` prints. Pure.

Texts in checks come from others and may hold anything: who prints a line escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toxproxy.address import shown
from toxproxy.control.checks import Check, CheckKind, Fault, Outcome, ordered, verdict
from toxproxy.program.amounts import counted, duration
from toxproxy.program.report import RELAY_REASONS

_MARKS = {Outcome.FINE: "ok", Outcome.NOTE: "note", Outcome.WRONG: "WRONG", Outcome.UNTRIED: "-"}
_LABELS = {
    CheckKind.LIBRARY: "libtoxcore",
    CheckKind.STATE: "state folder",
    CheckKind.NODES: "Tox nodes",
    CheckKind.UDP: "UDP",
    CheckKind.IPV6: "IPv6",
    CheckKind.PEER: "other end",
    CheckKind.NAMES: "names there",
    CheckKind.QUALITY: "path",
}


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """The verdict with its remedy, then a line for each check."""
    yield summary(checks)
    yield ""
    for check in ordered(checks):
        label = _LABELS.get(check.kind, check.kind.value)
        yield f"  {_MARKS[check.outcome]:<6} {label:<14} {_said(check)}"


def summary(checks: Sequence[Check]) -> str:
    """The first line: what has to be mended first and how, or that nothing has to."""
    if (worst := verdict(checks)) is not None:
        text = explained(worst)
        return text if text.startswith("libtoxcore") else f"{text[:1].upper()}{text[1:]}"
    if any(check.fault is Fault.NOT_RUNNING for check in checks):
        return "Nothing wrong is found here. Start toxproxy and ask again: the other end is tried then."
    notes = sum(check.outcome is Outcome.NOTE for check in checks)
    return "Everything works." if not notes else f"Everything works; {counted(notes, 'note')} below."


def explained(check: Check) -> str:
    """What is wrong or to be known, and what to do, on one line."""
    fault = check.fault
    if fault is None:
        return _FINE.get(check.kind, "fine")
    quoted = check.detail is not None and fault in _QUOTED
    return _SENTENCES[fault].format(
        about=check.about or "it",
        detail=shown(check.detail or "", 160) if quoted else check.detail or "",
        amount=_amount(check),
        why=RELAY_REASONS[check.relay_reason] if check.relay_reason else "slow",
    )


def _said(check: Check) -> str:
    if check.outcome is not Outcome.FINE:
        return explained(check)
    about, value = check.about, check.value
    match check.kind:
        case CheckKind.NODES:
            return "found" if about is None else f"found; {about} that were tried answer by TCP"
        case CheckKind.PEER:
            if about is None:
                return f"{counted(int(value or 0), 'client is', 'clients are')} connected"
            return f"{about} is connected"
        case CheckKind.CLOCK:
            return f"within {max(1.0, abs(value or 0)):.0f} s of the server's"
        case CheckKind.QUALITY:
            who = "" if about is None else f"{about}: "
            return f"{who}{value or 0:.0f} ms, direct"
        case CheckKind.ROUTER if about is not None:
            return f"its UDP port {about} leads here"
        case CheckKind.PORTS:
            return f"{about} can be used"
        case CheckKind.TARGETS:
            return f"{about} is reached"
        case CheckKind.REVERSE:
            return f"the server listens on {about}"
    return about or _FINE.get(check.kind, "fine")


def _amount(check: Check) -> str:
    value = check.value or 0.0
    match check.fault:
        case Fault.CLOCK_DIFFERS:
            return f"{duration(abs(value))} {'ahead of' if value > 0 else 'behind'}"
        case Fault.CLIENTS_WAIT:
            return counted(int(value), "client waits", "clients wait")
        case Fault.MUCH_LOSS:
            return f"{100 * value:.0f} %"
    return f"{value:.0f} ms"


_FINE = {
    CheckKind.CONFIGURATION: "it can be used",
    CheckKind.UDP: "it gets out and comes back",
    CheckKind.IPV6: "there is a way out",
    CheckKind.ROUTER: "none is needed, this machine has a public address",
    CheckKind.NAMES: "the server's resolver answers",
}

_QUOTED = {
    Fault.LISTEN_REFUSED,
    Fault.TARGET_FORBIDDEN, Fault.TARGET_REFUSED, Fault.TARGET_UNREACHABLE, Fault.TARGET_NAME_UNKNOWN,
}  # fmt: skip

_SENTENCES = {
    Fault.CONFIGURATION_WRONG: "the configuration is wrong: {detail}",
    Fault.LIBRARY_MISSING: "{detail}",
    Fault.LIBRARY_DOUBTFUL: (
        "libtoxcore {about} has a known hole (GHSA-42vg-9mg3-399f), unless your distribution has mended it: "
        "see its package's changelog, or install 0.2.23"
    ),
    Fault.STATE_FOREIGN: "{about} belongs to another user: run as that user, or chown it to this one",
    Fault.STATE_OPEN: "other users may look into {about}: chmod 700 {about}",
    Fault.STATE_UNUSABLE: "{about} cannot be read and written: choose another folder with --state",
    Fault.STATE_IN_USE: "{about} is in use by a process that does not answer: stop that process",
    Fault.PORT_TAKEN: (
        "port {about} is taken by another program: write another port into the configuration, "
        "or stop that program (ss -ltnp shows it)"
    ),
    Fault.PORT_UNUSABLE: "port {about} cannot be used ({detail}): write another into the configuration",
    Fault.UDP_PORTS_TAKEN: "no port of {about} is free for Tox: write others into [tox] port ({detail})",
    Fault.NODES_UNREACHABLE: (
        "no node of the Tox network is reached ({about}): see that this machine is online and that "
        "[tox] bootstrap names nodes that run"
    ),
    Fault.NODES_NONE: "none are configured, so only others can find this end",
    Fault.NETWORK_NOT_JOINED: (
        "a node answers by TCP, but the Tox network is not joined through it: name one in [tox] bootstrap "
        "that is a relay and takes UDP on the same port"
    ),
    Fault.UDP_BLOCKED: (
        "UDP does not get out or back here, so every path is a slow relay: let UDP out in the firewall "
        "or router, or use another network"
    ),
    Fault.UDP_REFUSED_HERE: (
        "this machine's own firewall refuses UDP, so every path is a slow relay: let toxproxy send UDP "
        "(nft list ruleset shows the rule)"
    ),
    Fault.UDP_OFF: "UDP is off ([tox] udp or proxy), so every path is a slow relay",
    Fault.IPV6_NONE: "there is no way out by IPv6; IPv4 is enough",
    Fault.ROUTER_NONE: "there is none that could be asked for a port",
    Fault.ROUTER_SILENT: (
        "it leads no port here: it speaks neither PCP, NAT-PMP nor UPnP. Where no direct path is found, "
        "switch one on there"
    ),
    Fault.ROUTER_REFUSES: (
        "it refuses to lead a port here. Where no direct path is found, let it do that for this machine"
    ),
    Fault.ROUTER_NOT_PUBLIC: "its UDP port {about} leads here, but another NAT is in front of it",
    Fault.CONNECTING: "not connected yet: ask again in half a minute",
    Fault.NOT_LET_IN: (
        "server {about} has never answered this client: if it runs, let the client in there: "
        "toxproxy allow {detail}"
    ),
    Fault.SECRET_NOT_TAKEN: (
        "server {about} does not take this client's secret, or is off: compare [access] secret at both ends, "
        "or let the client in there: toxproxy allow {detail}"
    ),
    Fault.SERVER_GONE: (
        "server {about} is off or not online: start it there: toxproxy server. If it runs and does not let "
        "this client in any more: toxproxy allow {detail}"
    ),
    Fault.PEER_SILENT: "{about} is online, and its answers do not arrive: see the network between the two",
    Fault.CLIENTS_WAIT: "{amount} to be let in: toxproxy allow",
    Fault.NOBODY_ALLOWED: "nobody is allowed in yet: toxproxy invite, or toxproxy allow once a client asks",
    Fault.TARGET_FORBIDDEN: "the server does not permit {about}: add it there to [access] permit",
    Fault.TARGET_REFUSED: "nothing listens on {about}, as the server sees it: start that service",
    Fault.TARGET_UNREACHABLE: (
        "the server does not reach {about}: see that it is on, and the name or address right {detail}"
    ),
    Fault.TARGET_NAME_UNKNOWN: "the server finds no address for {about}: correct it in the configuration",
    Fault.LISTEN_FORBIDDEN: (
        "the server does not let this client have it listen on {about}: add the address there to listen in "
        "this client's section [client NAME], and toxproxy reload"
    ),
    Fault.LISTEN_REFUSED: "the server does not listen on {about} {detail}",
    Fault.RESOLVER_DEAD: (
        "the server's name service does not answer, so names lead nowhere: mend /etc/resolv.conf there"
    ),
    Fault.CLOCK_DIFFERS: (
        "the clock here is {amount} the server's: set the wrong one (timedatectl set-ntp true); "
        "Tox goes on, but times in logs, allow --expires and TLS do not fit"
    ),
    Fault.RELAYED: "{amount}, through a relay: {why}",
    Fault.MUCH_LOSS: "{amount} of the packets are lost: weak Wi-Fi, mobile, or a line that is full",
    Fault.LONG_QUEUE: "{amount} of the round trip are a queue: the line is full",
    Fault.NOT_RUNNING: "not tried: no toxproxy runs here with this state",
    Fault.NOT_CONNECTED: "not tried: there is no connection",
    Fault.NOT_ASKED_FOR: "not tried: the configuration does not need it",
    Fault.NOT_KNOWN_THERE: "not known: the server does not tell",
}
