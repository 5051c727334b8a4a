"""How much a session sends at once when others of the process have much to send, too."""

from __future__ import annotations

from toxproxy.mux.limits import TURN, Turns


def test_who_is_alone_sends_a_whole_turn() -> None:
    turns = Turns()
    for now in (0.0, 0.01, 0.02):
        assert turns.most("alone", now) == TURN
        turns.sent("alone", TURN)


def test_the_turn_is_divided_among_those_who_send_much() -> None:
    turns = Turns()
    for each in range(4):
        turns.sent(each, 8)
    assert turns.most(0, 0.05) == TURN // 4
    assert turns.most("a new one", 0.05) == TURN // 5


def test_however_many_they_are_each_sends_what_the_pacer_lets_leave_at_once() -> None:
    turns = Turns()
    for each in range(1000):
        turns.sent(each, 8)
    assert turns.most(0, 0.05) == 8


def test_a_keystroke_takes_nothing_from_a_download() -> None:
    turns = Turns()
    for each in range(100):
        turns.sent(each, 2)
    assert turns.most("a download", 0.05) == TURN


def test_who_sends_no_more_is_forgotten_within_two_spans() -> None:
    turns = Turns()
    assert turns.most("one", 10.0) == TURN
    turns.sent("other", TURN)
    assert turns.most("one", 10.11) == TURN // 2  # the span before counts as well
    assert turns.most("one", 10.22) == TURN


def test_after_a_pause_nobody_is_remembered() -> None:
    turns = Turns()
    assert turns.most("one", 10.0) == TURN
    turns.sent("other", TURN)
    assert turns.most("one", 99.0) == TURN
