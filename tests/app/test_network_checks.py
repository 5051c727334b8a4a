"""What is concluded from how the Tox network was joined and how its nodes are reached."""

from __future__ import annotations

import pytest

from toxproxy.app.checkup import network
from toxproxy.control.checks import Fault, verdict
from toxproxy.control.snapshots import NetworkPath
from toxproxy.tox.bootstrap import Introducer
from toxproxy.tox.reach import Reach, Reached


def node(udp: Reach, tcp: Reach) -> Reached:
    return Reached(Introducer("192.0.2.1", 33445, bytes(32), (33445,)), udp, tcp, public=True)


FORBIDDEN = node(Reach.FORBIDDEN, Reach.OPEN)
ANSWERS = node(Reach.OPEN, Reach.OPEN)
UDP_ONLY = node(Reach.OPEN, Reach.REFUSED)  # it may be there: UDP does not tell
NOTHING = node(Reach.REFUSED, Reach.REFUSED)
NO_ROUTE = node(Reach.UNREACHABLE, Reach.UNREACHABLE)


@pytest.mark.parametrize(
    ("path", "found", "settled", "fault"),
    [
        (NetworkPath.UDP, [ANSWERS], True, None),
        (NetworkPath.UDP, [NOTHING], True, None),
        (NetworkPath.LOCAL, [UDP_ONLY], True, None),
        (NetworkPath.TCP, [ANSWERS], True, Fault.UDP_BLOCKED),
        (NetworkPath.TCP, [ANSWERS], False, None),
        (NetworkPath.TCP, [FORBIDDEN], False, Fault.UDP_REFUSED_HERE),
        (NetworkPath.TCP, [FORBIDDEN, ANSWERS], False, None),
        (NetworkPath.NONE, [ANSWERS], True, Fault.UDP_BLOCKED),
        (NetworkPath.NONE, [FORBIDDEN], True, Fault.UDP_REFUSED_HERE),
        (NetworkPath.NONE, [UDP_ONLY], True, Fault.NODES_UNREACHABLE),
        (NetworkPath.NONE, [UDP_ONLY], False, Fault.CONNECTING),
        (NetworkPath.NONE, [NOTHING], False, Fault.NODES_UNREACHABLE),
        (NetworkPath.NONE, [NO_ROUTE, NO_ROUTE], True, Fault.NODES_UNREACHABLE),
        (NetworkPath.NONE, [], True, None),
    ],
)
def test_the_verdict(path: NetworkPath, found: list[Reached], settled: bool, fault: Fault | None) -> None:
    worst = verdict(network(path, found, udp=True, settled=settled))
    assert (None if worst is None else worst.fault) is fault


def test_without_udp_only_the_network_can_be_missing() -> None:
    assert verdict(network(NetworkPath.TCP, [ANSWERS], udp=False, settled=True)) is None
    worst = verdict(network(NetworkPath.NONE, [ANSWERS], udp=False, settled=True))
    assert worst is not None
    assert worst.fault is Fault.NETWORK_NOT_JOINED


def test_a_direct_path_to_a_peer_shows_that_udp_works() -> None:
    assert verdict(network(NetworkPath.TCP, [ANSWERS], udp=True, settled=True, direct=True)) is None
