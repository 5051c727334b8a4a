"""The memory that all sessions of a process share."""

from __future__ import annotations

from toxproxy.mux.limits import Limits, Pool
from toxproxy.mux.window import Allotment, ReceiveWindow

LEAST = Limits().least_window


def windows(allotment: Allotment, count: int) -> list[ReceiveWindow]:
    return [ReceiveWindow(allotment.first()) for _ in range(count)]


def test_what_one_session_takes_the_others_do_without() -> None:
    limits = Limits(session_window=1 << 20, window=1 << 20, pool=Pool(1 << 20))
    greedy, other = Allotment(limits), Allotment(limits)
    taken = windows(greedy, 1000)
    for window in taken:
        greedy.widen(window)
    assert other.first() == LEAST
    assert sum(window.size for window in taken) <= (1 << 20) + 1000 * LEAST


def test_a_session_s_own_bound_stays() -> None:
    pool = Pool(1 << 30)
    allotment = Allotment(Limits(session_window=1 << 20, pool=pool))
    windows(allotment, 1000)
    assert allotment.first() == LEAST
    assert pool.left > 1 << 29


def test_what_a_stream_had_is_everybody_s_again() -> None:
    pool = Pool(64 << 20)
    allotment = Allotment(Limits(pool=pool))
    taken = windows(allotment, 100)
    for window in taken:
        allotment.widen(window)
    assert pool.left < 64 << 20
    for window in taken:
        allotment.give_back(window)
    assert pool.left == 64 << 20
    assert Allotment(Limits(pool=pool)).first() == 1 << 20
