"""Which of several exits is used: what is there, what falls silent, and what has come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.routing.preference import STEADY, Preference, Standing

THERE, SILENT, GONE = Standing.THERE, Standing.SILENT, Standing.GONE


def test_the_first_that_is_there_is_used() -> None:
    assert Preference(3).choose(0.0, (THERE, THERE, THERE)) == 0
    assert Preference(3).choose(0.0, (GONE, THERE, THERE)) == 1
    assert Preference(3).choose(0.0, (GONE, SILENT, THERE)) == 2


def test_a_silent_one_is_used_only_where_none_is_there() -> None:
    assert Preference(3).choose(0.0, (GONE, SILENT, SILENT)) == 1
    assert Preference(3).choose(0.0, (GONE, GONE, GONE)) is None


def test_the_next_takes_over_at_once_and_the_first_is_used_again_when_it_is_steady() -> None:
    preference = Preference(2)
    assert preference.choose(0.0, (THERE, THERE)) == 0
    assert preference.choose(1.0, (SILENT, THERE)) == 1
    assert preference.choose(2.0, (THERE, THERE)) == 1
    assert preference.choose(2.0 + STEADY - 0.1, (THERE, THERE)) == 1
    assert preference.choose(2.0 + STEADY, (THERE, THERE)) == 0


def test_an_exit_that_goes_again_meanwhile_has_to_be_steady_anew() -> None:
    preference = Preference(2)
    preference.choose(0.0, (GONE, THERE))
    preference.note(10.0, (THERE, THERE))
    preference.note(20.0, (GONE, THERE))
    preference.note(30.0, (THERE, THERE))
    assert preference.choose(30.0 + STEADY - 1, (THERE, THERE)) == 1
    assert preference.choose(30.0 + STEADY, (THERE, THERE)) == 0


def test_an_exit_that_is_not_steady_yet_is_used_where_the_present_one_goes() -> None:
    preference = Preference(3)
    assert preference.choose(0.0, (GONE, THERE, THERE)) == 1
    assert preference.choose(1.0, (THERE, GONE, THERE)) == 0


def test_a_middle_one_that_is_steady_is_used_before_the_first_is() -> None:
    preference = Preference(3)
    assert preference.choose(0.0, (GONE, GONE, THERE)) == 2
    preference.note(10.0, (GONE, THERE, THERE))
    preference.note(30.0, (THERE, THERE, THERE))
    assert preference.choose(10.0 + STEADY, (THERE, THERE, THERE)) == 1
    assert preference.choose(30.0 + STEADY, (THERE, THERE, THERE)) == 0


@given(st.lists(st.tuples(st.floats(0, 60), st.tuples(*[st.sampled_from(Standing)] * 3)), max_size=30))
def test_what_is_chosen_is_the_best_kind_that_there_is(
    steps: list[tuple[float, tuple[Standing, ...]]],
) -> None:
    preference, now = Preference(3), 0.0
    for pause, standings in steps:
        now += pause
        chosen = preference.choose(now, standings)
        if THERE in standings:
            assert chosen is not None
            assert standings[chosen] is THERE
        elif SILENT in standings:
            assert chosen == standings.index(SILENT)
        else:
            assert chosen is None
