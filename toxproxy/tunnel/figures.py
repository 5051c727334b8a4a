"""What a session has measured and counted, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.recovery.congestion import State
from toxproxy.recovery.recovery import Recovery


@dataclass(frozen=True, slots=True)
class Figures:
    """Times are in seconds, sizes in bytes.

    `round_trip` (smoothed) and `least_round_trip` (of the last 10 to 20 seconds) are None until they are
    measured on this link. `queue` is by how much the first exceeds the second. `sent` and `lost` count
    packets since the session began; a packet that only was late may be among the lost. `silence`: since when
    no datagram came on the link; a peer that is there sends one within two seconds. None without a link.
    `datagrams`: those of flows that were sent, that came, and that were dropped before they left, since the
    session began. `received` packets came of the `numbered` ones that the peer has sent; some may be on their
    way.
    """

    round_trip: float | None
    least_round_trip: float | None
    queue: float
    sent: int
    lost: int
    window: int
    in_flight: int
    state: State
    lossy: bool
    silence: float | None
    received: int
    numbered: int
    datagrams: tuple[int, int, int]


def measured(recovery: Recovery, multiplexer: Multiplexer, silence: float | None) -> Figures:
    """The figures of a session's recovery and of its datagrams, with the silence of its link."""
    outgoing, assembly = multiplexer.scheduler.datagrams, multiplexer.assembly
    trip, controller, flight = recovery.trip, recovery.controller, recovery.flight
    return Figures(
        round_trip=trip.smoothed if trip.known else None,
        least_round_trip=trip.least if trip.known else None,
        queue=max(0.0, trip.smoothed - trip.least) if trip.known else 0.0,
        sent=flight.next_number - 1,
        lost=recovery.lost,
        window=controller.window,
        in_flight=flight.bytes,
        state=controller.state,
        lossy=controller.lossy,
        silence=silence,
        received=recovery.came[0],
        numbered=recovery.came[1],
        datagrams=(outgoing.sent, assembly.received, outgoing.dropped),
    )
