"""Snapshots in sentences: what `toxproxy status` prints, and the status line of a client.

Pure. Names come from others and may hold anything: who prints a line escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from toxproxy.address import MAX_WORDS, shown
from toxproxy.control.findings import Finding, FindingKind, findings
from toxproxy.control.snapshots import (
    Admission,
    AllowanceSnapshot,
    ClientSnapshot,
    EndRole,
    LinkSnapshot,
    ListenerKind,
    ListenerSnapshot,
    ListenerState,
    NetworkPath,
    PathKind,
    PeerSnapshot,
    PeerState,
    PongSnapshot,
    RelayReason,
    Snapshot,
)
from toxproxy.mapping.grant import Progress
from toxproxy.program.amounts import counted, duration, moment, rate, size
from toxproxy.program.router import router_line
from toxproxy.tunnel.friend import Phase

_PATHS = {
    PathKind.DIRECT: "direct",
    PathKind.RELAY: "through a relay",
    PathKind.UNKNOWN: "not connected",
}


#: Why a path is a relay: after "through a relay: ".
RELAY_REASONS = {
    RelayReason.UDP_OFF: "UDP is off here",
    RelayReason.UDP_BLOCKED: "UDP is blocked here",
    RelayReason.NO_UDP_THERE: "UDP is off or blocked at the other end",
    RelayReason.SEARCHING: "a direct path is being looked for",
    RelayReason.NOT_FOUND: "no direct path was found",
}


def short(key: str) -> str:
    """The first 12 digits of a key."""
    return key[:12]


def called(key: str, name: str | None) -> str:
    """An end: its name, if it has one, and its key. Others choose their names, so the key is always there."""
    return f"{name} ({short(key)})" if name else short(key)


def lines(snapshot: Snapshot, *, verbose: bool = False) -> Iterator[str]:
    """The whole report: the verdict, peers, listeners, the network, then what explains it or needs an act."""
    yield verdict(snapshot)
    if snapshot.peers:
        yield ""
        for peer in snapshot.peers:
            yield f"  {peer_line(snapshot, peer)}"
            if verbose and peer.link is not None:
                yield f"    {link_line(peer.link)}"
    if snapshot.listeners:
        yield ""
        for listener in snapshot.listeners:
            yield f"  {listener_line(listener)}"
    yield ""
    yield f"  {network_line(snapshot)}"
    if snapshot.network.mapping is not None or verbose:
        yield f"  {router_line(snapshot.network.mapping)}"
    if verbose:
        for line in _details(snapshot):
            yield f"  {line}"
    explained = [explanation(snapshot, finding) for finding in findings(snapshot)]
    if explained:
        yield ""
        yield from explained


# The verdict


def verdict(snapshot: Snapshot) -> str:
    """The answer in one sentence."""
    return _server_verdict(snapshot) if snapshot.end.role is EndRole.SERVER else _client_verdict(snapshot)


def _server_verdict(snapshot: Snapshot) -> str:
    there = [peer for peer in snapshot.peers if peer.state is PeerState.CONNECTED]
    relayed = sum(peer.path is PathKind.RELAY for peer in there)
    waiting = len(snapshot.access.waiting) if snapshot.access is not None else 0
    if not there and snapshot.network.path is NetworkPath.NONE:
        return "The server is not on the Tox network, so no client finds it."
    what = (
        f"{counted(len(there), 'client is', 'clients are')} connected" if there else "No client is connected"
    )
    if relayed:
        what += f", {relayed} of them through a relay" if len(there) > 1 else ", through a relay"
    if waiting:
        what += f"; {counted(waiting, 'client waits', 'clients wait')} to be let in"
    return f"{what}."


def _client_verdict(snapshot: Snapshot) -> str:
    if len(snapshot.peers) != 1:
        there = sum(peer.state is PeerState.CONNECTED for peer in snapshot.peers)
        return f"Connected to {there} of {counted(len(snapshot.peers), 'server')}."
    (peer,) = snapshot.peers
    if peer.state is PeerState.CONNECTED:
        trip = _trip(peer)
        why = "" if peer.relay_reason is None else f": {RELAY_REASONS[peer.relay_reason]}"
        return f"Connected to the server, {_PATHS[peer.path]}{f' ({trip})' if trip else ''}{why}."
    if snapshot.network.path is NetworkPath.NONE:
        return "Not connected: the Tox network was not found."
    return {
        PeerState.CONNECTING: "Not connected yet: the server is being connected.",
        PeerState.WAITING: "Not connected: the server is off, or it has not let this client in.",
        PeerState.SILENT: "The server does not answer at the moment; its connections wait.",
        PeerState.OFFLINE: f"Not connected: the server is {'gone' if peer.met else 'off, or not online'}.",
    }[peer.state]


def _trip(peer: PeerSnapshot) -> str:
    """The round trip in words; "" where it is not known."""
    return f"{peer.link.rtt_ms:.0f} ms" if peer.link is not None and peer.link.rtt_ms is not None else ""


# One line each


def waits(snapshot: Snapshot, peer: PeerSnapshot) -> str:
    """How far the way to a server is, as the status line says it."""
    who = "the server" if len(snapshot.peers) == 1 else f"server {called(peer.key, peer.name)}"
    if peer.ready:
        trip = _trip(peer)
        return f"connected to {who}, {_PATHS[peer.path]}{f', {trip}' if trip else ''}"
    if peer.met and peer.streams:
        wait = counted(peer.streams, "connection waits", "connections wait")
        return f"{who} is away; {wait} for it"
    if phase(peer) is Phase.LINKING:
        return f"{who} found; connecting"
    if snapshot.network.path is NetworkPath.NONE:
        return "looking for the Tox network"
    if peer.met:
        return f"{who} is gone; looking for it"
    if peer.state is PeerState.OFFLINE:
        return f"network found; looking for {who}"
    to = "" if len(snapshot.peers) == 1 else f" by {who}"
    return f'waiting to be allowed{to} as "{snapshot.end.words}"'


def statuses(snapshot: Snapshot) -> list[tuple[Phase, str]]:
    """What a client's status line has of each server."""
    return [(phase(peer), waits(snapshot, peer)) for peer in snapshot.peers]


def phase(peer: PeerSnapshot) -> Phase:
    """What programs that read the log are told."""
    if peer.ready:
        return Phase.READY
    return Phase.ABSENT if peer.path is PathKind.UNKNOWN else Phase.LINKING


def path(peer: PeerSnapshot) -> str:
    """What carries the packets, and for a relay why."""
    why = "" if peer.relay_reason is None else f": {RELAY_REASONS[peer.relay_reason]}"
    return f"{_PATHS[peer.path]}{why}"


def peer_line(snapshot: Snapshot, peer: PeerSnapshot) -> str:
    """One peer: who, its state, its path, and what goes through."""
    role = "client" if snapshot.end.role is EndRole.SERVER else "server"
    now = snapshot.taken_unix_s
    who = f"{role} {called(peer.key, peer.name)}"
    parts = [f"{_STATES[peer.state]} for {duration(now - peer.since_unix_s)}"]
    if peer.state is PeerState.CONNECTED:
        parts.append(f"{_PATHS[peer.path]} for {duration(now - peer.path_since_unix_s)}")
        if peer.address:
            parts[-1] += f" to {peer.address}"
        if peer.relay_reason is not None:
            parts[-1] += f" ({RELAY_REASONS[peer.relay_reason]})"
    if (link := peer.link) is not None and peer.state is PeerState.CONNECTED:
        if link.rtt_ms is not None:
            parts.append(f"{link.rtt_ms:.0f} ms (least {link.least_rtt_ms:.0f})")
        parts.append(f"{100 * link.loss_share:.1f} % lost")
    if peer.streams or peer.waiting or peer.state is PeerState.CONNECTED:
        parts.append(counted(peer.streams + peer.waiting, "connection"))
        if peer.flows:
            parts[-1] += f" ({peer.flows} UDP)"
    traffic = peer.traffic
    if peer.met or peer.state is PeerState.CONNECTED:
        parts.append(f"sent {_amount(traffic.sent_bytes, traffic.sent_bytes_per_s)}")
        parts.append(f"received {_amount(traffic.received_bytes, traffic.received_bytes_per_s)}")
    if peer.resumed:
        parts.append(f"resumed {counted(peer.resumed, 'time')}")
    if peer.allowance is not None:
        parts += allowance_parts(peer.allowance)
    return f"{who}: {', '.join(parts)}"


def _amount(count: int, per_second: float | None) -> str:
    return f"{size(count)} ({rate(per_second)})" if per_second else size(count)


_STATES = {
    PeerState.CONNECTING: "connecting",
    PeerState.WAITING: "waiting to be allowed",
    PeerState.CONNECTED: "connected",
    PeerState.SILENT: "silent",
    PeerState.OFFLINE: "offline",
}


def link_line(link: LinkSnapshot) -> str:
    """What congestion control does."""
    queue = "" if link.queue_ms is None else f", queue {link.queue_ms:.0f} ms"
    packets = f"{link.lost_packets} of {counted(link.sent_packets, 'packet')} lost"
    if datagrams := link.sent_datagrams + link.dropped_datagrams:
        packets += f", {link.dropped_datagrams} of {counted(datagrams, 'datagram')} dropped"
    flight = f"{size(link.in_flight_bytes)} of {size(link.window_bytes)} on the way"
    return f"{packets}, {flight}{queue}, {link.phase.value}{', lossy' if link.lossy else ''}"


def listener_line(listener: ListenerSnapshot) -> str:
    """One address that is listened on."""
    where = f"-> {listener.target}" if listener.target is not None else "(SOCKS and HTTP proxy)"
    if listener.kind is ListenerKind.COMMAND:
        where = "(commands)"
    if listener.kind is ListenerKind.FOR_CLIENT:
        where = "-> the client"
    if listener.kind is ListenerKind.REVERSE:
        where = f"{_ASKED[listener.state]} {where.removeprefix('-> ')}"
    refused = f", {listener.refused} refused" if listener.refused else ""
    counts = f"{listener.connections} open, {listener.accepted} in all{refused}"
    return f"{listener.name}: {listener.address} {where}: {counts}"


_ASKED = {
    ListenerState.LISTENING: "at the server ->",
    ListenerState.WAITING: "at the server, which is not there ->",
    ListenerState.ASKED: "at the server, which has not answered ->",
    ListenerState.REFUSED: "at the server, which refuses ->",
}


def network_line(snapshot: Snapshot) -> str:
    """How this node is on the Tox network."""
    network = snapshot.network
    how = {
        NetworkPath.NONE: "not connected",
        NetworkPath.TCP: "connected by TCP",
        NetworkPath.UDP: "connected by UDP",
        NetworkPath.LOCAL: "connected to local nodes only",
    }[network.path]
    since = duration(snapshot.taken_unix_s - network.since_unix_s)
    port = "no UDP" if network.udp_port is None else f"UDP port {network.udp_port}"
    asked = f"bootstrap nodes asked {counted(network.nodes_asked, 'time')}"
    return f"Tox network: {how} for {since}, {port}, {asked}"


def _details(snapshot: Snapshot) -> Iterator[str]:
    end, limits = snapshot.end, snapshot.limits
    running = duration(snapshot.taken_unix_s - end.started_unix_s)
    yield f"toxproxy {end.version} with libtoxcore {end.libtoxcore_version}, process {end.process_id}"
    yield f"running for {running}, state in {end.state_folder}"
    yield f"Tox ID {end.tox_id}"
    yield f"in words: {end.words}"
    if snapshot.audit is not None:
        yield f"audit to {snapshot.audit.file or 'the log'}"
    yield (
        f"limits: {limits.streams} connections a peer, {limits.connections} a listener, "
        f"{size(limits.memory_bytes)} a peer, {size(limits.process_memory_bytes)} in all"
    )


# What explains it


def explanation(snapshot: Snapshot, finding: Finding) -> str:
    """A finding in sentences, with what to do."""
    who = _who(snapshot, finding)
    whom = f"{who[0].lower()}{who[1:]}"
    count = finding.count
    match finding.kind:
        case FindingKind.NETWORK_NOT_FOUND:
            return "No node of the Tox network answers: is this machine online?"
        case FindingKind.UDP_BLOCKED:
            return "UDP does not get out here, so the path is a relay: slow, and others use it too."
        case FindingKind.UDP_OFF:
            return "UDP is off ([tox] udp or proxy), so the path is a relay: slow, and others use it too."
        case FindingKind.NOT_LET_IN:
            return (
                f"{who} has never answered this client. If it runs, it waits for: toxproxy allow\n"
                f"That shows who asks, in words. This client's words are:\n\n  {snapshot.end.words}"
            )
        case FindingKind.SERVER_GONE | FindingKind.PEER_SILENT:
            grace = f", for {duration(snapshot.limits.grace_s)} at most"
            wait = (
                f"; {counted(count, 'connection waits', 'connections wait')} for it{grace}" if count else ""
            )
            if finding.kind is FindingKind.PEER_SILENT:
                return f"{who} is online, and its answers do not arrive{wait}."
            gone = f"{who} is off, or not online{wait}."
            if any(peer.key == finding.peer_key and not peer.met for peer in snapshot.peers):
                gone += (
                    " It has let this client in before. "
                    "If it does not any more, it waits for: toxproxy allow\n"
                    f"This client's words are:\n\n  {snapshot.end.words}"
                )
            return gone
        case FindingKind.NO_UDP_THERE:
            return f"UDP works here, but not at {whom}: it is blocked there, or off ([tox] udp)."
        case FindingKind.PATH_SEARCHED:
            return f"A direct path to {whom} is being looked for; until then the path is a relay."
        case FindingKind.NO_DIRECT_PATH:
            why = f"a NAT or firewall between them is strict.{_advice(snapshot)}"
            return f"UDP works at both ends, but Tox finds no direct path to {whom}: {why}"
        case FindingKind.MUCH_LOSS:
            return f"The path to {whom} loses many packets: weak Wi-Fi, mobile, or a line that is full."
        case FindingKind.CLIENTS_WAIT:
            return f"{counted(count, 'client waits', 'clients wait')} to be let in: toxproxy allow"
        case FindingKind.NOBODY_ALLOWED:
            return "Nobody is allowed in yet. Start a client, then: toxproxy allow"
        case FindingKind.AUDIT_NOT_WRITTEN:
            where = snapshot.audit.file if snapshot.audit is not None else None
            lost = counted(count, "line of it is lost", "lines of it are lost")
            return f"The audit cannot be written to {where or 'its file'}: {lost} ([log] audit)."
        case FindingKind.LISTENER_FULL:
            return f"{finding.listener} is full: {counted(count, 'connection')} ([limits] connections)."
        case FindingKind.NOT_LISTENED:
            about = [each for each in snapshot.listeners if each.name == finding.listener and each.refusal]
            why = f": {shown(about[0].detail or '', MAX_WORDS)}" if about else "."
            return f"{who} does not listen for {finding.listener}, and is asked again{why}"
        case FindingKind.LIBRARY_DOUBTFUL:
            return (
                f"libtoxcore {snapshot.end.libtoxcore_version} has a known hole (GHSA-42vg-9mg3-399f), "
                "unless your distribution has mended it: see its package's changelog, or install 0.2.23."
            )


def _advice(snapshot: Snapshot) -> str:
    """What would help against a strict NAT."""
    mapping = snapshot.network.mapping
    if mapping is not None and mapping.state in (Progress.MAPPED, Progress.NOT_NEEDED) and mapping.public:
        return ""
    return " A port of either router that leads to Tox's UDP port helps: UPnP or PCP on, or by hand."


def _who(snapshot: Snapshot, finding: Finding) -> str:
    if snapshot.end.role is EndRole.CLIENT and len(snapshot.peers) == 1:
        return "The server"
    key = finding.peer_key or ""
    name = next((peer.name for peer in snapshot.peers if peer.key == key), None)
    return f"{'Server' if snapshot.end.role is EndRole.CLIENT else 'Client'} {called(key, name)}"


def pong_line(pong: PongSnapshot) -> str:
    """One ping."""
    who = short(pong.peer_key)
    if pong.rtt_ms is not None:
        return f"{who}: {pong.rtt_ms:.1f} ms, {_PATHS[pong.path]}"
    if pong.state is PeerState.CONNECTED:
        return f"{who}: no answer"
    return f"{who}: no answer, {_STATES[pong.state]}"


def client_line(client: ClientSnapshot, now_unix_s: float, *, verbose: bool = False) -> str:
    """One client of a server: who, when it was there, its bytes, and why it may connect."""
    who = called(client.key, client.name)
    parts = []
    if client.connected:
        parts.append("connected")
    elif client.seen_unix_s is not None:
        ago = duration(now_unix_s - client.seen_unix_s)
        parts.append(f"last seen {ago} ago ({moment(client.seen_unix_s)})")
    elif client.admission is not Admission.BLOCKED:
        parts.append("not seen yet")
    if client.sent_bytes or client.received_bytes:
        parts.append(f"sent {size(client.sent_bytes)}, received {size(client.received_bytes)}")
    parts.append(_ADMISSIONS[client.admission])
    if client.expires_unix_s is not None and client.admission is not Admission.EXPIRED:
        parts.append(f"until {moment(client.expires_unix_s)}")
    if client.allowance is not None:
        parts += allowance_parts(client.allowance)
    line = f"{who}: {', '.join(parts)}"
    return f"{line}\n  {client.key}\n  {client.words}" if verbose else line


def allowance_parts(allowance: AllowanceSnapshot) -> list[str]:
    """The rate and the quota of a client, and what is left of that."""
    parts = []
    down, up = allowance.down_bytes_per_s, allowance.up_bytes_per_s
    if down is not None and up is not None:
        both = rate(down) if down == up else f"{rate(down)} to it and {rate(up)} from it"
        parts.append(f"at most {both}")
    if (quota := allowance.quota_bytes) is not None:
        used = allowance.used_bytes or 0
        left = f"{size(quota - used)} left" if used < quota else "none left"
        parts.append(f"{size(used)} of {size(quota)} used this month, {left}")
    return parts


_ADMISSIONS = {
    Admission.CONFIGURED: "allowed in the configuration",
    Admission.COMMAND: "allowed by command",
    Admission.SECRET: "came by the secret",
    Admission.ANYONE: "came since anyone may",
    Admission.BLOCKED: "blocked",
    Admission.EXPIRED: "its time is over",
}
