"""Checks in sentences."""

from __future__ import annotations

import random

import pytest

from toxproxy.control.checks import Check, CheckKind, Fault, Outcome, fine, note, untried, wrong
from toxproxy.program.diagnosis import explained, lines, summary


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
def test_every_fault_has_a_sentence_on_one_line_that_does_not_begin_small(fault: Fault) -> None:
    check = wrong(CheckKind.PEER, fault, "A place", detail="Words of {others}", value=12.0)
    text = summary([check])
    assert not text[0].islower() or text.startswith("libtoxcore")
    assert "\n" not in text
    assert len(text) > 20 or fault is Fault.LIBRARY_MISSING


@pytest.mark.parametrize("kind", list(CheckKind), ids=lambda kind: kind.value)
def test_every_kind_has_a_line_when_it_is_fine(kind: CheckKind) -> None:
    (line,) = list(lines([fine(kind)]))[2:]
    assert line.startswith("  ok ")
    assert len(line.split()) > 2


def test_what_explains_the_others_comes_first() -> None:
    checks = [
        wrong(CheckKind.CONFIGURATION, Fault.CONFIGURATION_WRONG, detail="x.ini:1: expected this"),
        wrong(CheckKind.NODES, Fault.NODES_UNREACHABLE, "192.0.2.1:33445"),
        wrong(CheckKind.PEER, Fault.NOT_LET_IN, "ABCD", detail="six words"),
        wrong(CheckKind.CLOCK, Fault.CLOCK_DIFFERS, value=3600.0),
    ]
    while checks:
        mixed = [*checks, fine(CheckKind.STATE), note(CheckKind.IPV6, Fault.IPV6_NONE)]
        random.Random(len(mixed)).shuffle(mixed)
        assert summary(mixed).lower() == explained(checks.pop(0)).lower()


def test_where_nothing_is_wrong_it_says_so() -> None:
    assert summary([fine(CheckKind.UDP)]) == "Everything works."
    assert summary([note(CheckKind.IPV6, Fault.IPV6_NONE)]) == "Everything works; 1 note below."
    assert summary([untried(CheckKind.PEER, Fault.NOT_RUNNING)]).startswith("Nothing wrong is found here.")


def test_what_others_wrote_is_quoted_and_cut() -> None:
    check = Check(
        kind=CheckKind.TARGETS, outcome=Outcome.WRONG, fault=Fault.TARGET_UNREACHABLE, about="a:1",
        detail="x" * 500,
    )  # fmt: skip
    assert len(explained(check)) < 300


@pytest.mark.parametrize(("seconds", "said"), [(3600.0, "1 h ahead of"), (-120.0, "2 min behind")])
def test_the_clock_is_ahead_or_behind(seconds: float, said: str) -> None:
    text = explained(wrong(CheckKind.CLOCK, Fault.CLOCK_DIFFERS, value=seconds))
    assert f"here is {said} the server's" in text
