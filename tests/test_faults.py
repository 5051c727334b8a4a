"""The fault suite: its plan, its judgement, and a small run over a pipe."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.links import Direction, Link
from faults import trials as crossing
from faults.content import BLOCK, Content, Receipt
from faults.far import attend
from faults.ledger import Account, End, Ledger, judge
from faults.near import Opened, carry_out
from faults.plan import Cut, Kind, Plan, Shape, Side, Stream, Way
from faults.report import Findings, render
from faults.usage import MOST_DESCRIPTORS, MOST_MEMORY, Usage
from tests.simulation import Path
from tests.tunnel.ends import Ends, service, tunnel
from toxproxy.link.base import LinkEnd
from toxproxy.tunnel.events import Change, SessionEvent

SHAPE = Shape(
    streams=400,
    warm=100,
    at_once=40,
    total=100_000_000,
    stall=1,
    peace=(0.1, 0.6),
    cut=(0.05, 0.6),
    patience=60,
)
WHOLE = Stream(7, Way.SOCKS, Kind.TOGETHER, up=100, down=3000, actor=Side.NEAR, share=0.5, pause=0)
CUT = replace(WHOLE, kind=Kind.RESET)

seeds = st.integers(0, 1 << 32)
contents = st.builds(
    Content,
    seed=seeds,
    number=st.integers(0, 9999),
    side=st.sampled_from(Side),
    size=st.integers(0, 3 * BLOCK),
)


@cache
def plan(seed: int = 1) -> Plan:
    return Plan.make(seed, SHAPE)


# The plan


def test_a_seed_makes_one_plan_and_another_seed_another() -> None:
    again = Plan.make(1, SHAPE)
    assert again == plan(1)
    assert list(islice(again.cuts(), 9)) == list(islice(plan(1).cuts(), 9))
    assert plan(1).streams != plan(2).streams
    assert list(islice(plan(1).cuts(), 9)) != list(islice(plan(2).cuts(), 9))


def test_another_process_makes_the_same_plan() -> None:
    assert Plan.from_json(plan().to_json()) == plan()


def test_a_plan_has_streams_of_every_sort() -> None:
    streams = plan().streams
    assert {stream.kind for stream in streams} == set(Kind)
    assert {stream.way for stream in streams} == set(Way)
    for kind in (Kind.STALL, Kind.RESET):
        assert {stream.actor for stream in streams if stream.kind is kind} == set(Side)
    assert any(not stream.up and stream.down for stream in streams)
    assert any(stream.up and not stream.down for stream in streams)
    assert max(stream.up for stream in streams) > 1_000_000
    assert sorted(stream.up for stream in streams)[len(streams) // 2] < 65536


@given(seeds, st.integers(1, 100_000_000))
def test_a_plan_has_no_more_bytes_than_its_total(seed: int, total: int) -> None:
    made = Plan.make(seed, replace(SHAPE, streams=40, total=total))
    assert sum(stream.up + stream.down for stream in made.streams) <= total + 2 * len(made.streams)


@given(seeds)
def test_a_side_stalls_or_resets_before_it_has_got_everything(seed: int) -> None:
    for stream in Plan.make(seed, replace(SHAPE, streams=40, total=100_000)).streams:
        if stream.kind in (Kind.STALL, Kind.RESET):
            assert 1 <= stream.after <= stream.size(stream.actor.other)


@given(seeds)
def test_cuts_keep_to_the_shape(seed: int) -> None:
    for cut in islice(Plan.make(seed, replace(SHAPE, streams=1)).cuts(), 20):
        assert SHAPE.peace[0] <= cut.peace <= SHAPE.peace[1]
        assert SHAPE.cut[0] * 0.999 <= cut.seconds <= SHAPE.cut[1] * 1.001


def test_both_rounds_begin_with_the_longest_cut_and_then_differ() -> None:
    first, second = (list(islice(plan().cuts(turn), 9)) for turn in (0, 1))
    assert first[0] == second[0] == Cut(SHAPE.peace[0], SHAPE.cut[1])
    assert first[1:] != second[1:]


def test_every_stream_is_in_one_of_the_rounds() -> None:
    warm, rest = plan().rounds()
    assert len(warm) == SHAPE.warm
    assert (*warm, *rest) == plan().streams


def test_more_bytes_and_a_stall_have_a_longer_bound() -> None:
    assert plan().bound(WHOLE) > SHAPE.patience
    assert plan().bound(replace(WHOLE, up=1_000_000)) > plan().bound(WHOLE)
    assert plan().bound(replace(WHOLE, pause=5)) == plan().bound(WHOLE) + 5


# What streams carry


@given(contents)
def test_content_has_the_declared_size(content: Content) -> None:
    assert sum(len(piece) for piece in content.pieces()) == content.size


def test_no_two_directions_carry_the_same_bytes() -> None:
    some = Content(1, 1, Side.NEAR, 100)
    others = (replace(some, seed=2), replace(some, number=2), replace(some, side=Side.FAR))
    assert len({some.block(0), some.block(1), *(other.block(0) for other in others)}) == 5


def test_some_of_the_content_can_be_compressed() -> None:
    content = Content(1, 1, Side.NEAR, 40 * BLOCK)
    packed = [len(zlib.compress(piece)) for piece in content.pieces()]
    assert 4 < sum(size < BLOCK / 10 for size in packed) < 36


@given(contents, st.data())
def test_the_content_is_right_in_pieces_of_any_size(content: Content, data: st.DataObject) -> None:
    whole, receipt = b"".join(content.pieces()), Receipt(content)
    for piece in split(whole, data):
        receipt.take(piece)
    assert (receipt.got, receipt.wrong_at) == (content.size, None)


@given(contents.filter(lambda content: content.size > 0), st.data())
def test_the_offset_of_a_wrong_byte_is_found(content: Content, data: st.DataObject) -> None:
    whole, receipt = bytearray(b"".join(content.pieces())), Receipt(content)
    at = data.draw(st.integers(0, content.size - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    for piece in split(bytes(whole), data):
        receipt.take(piece)
    assert (receipt.got, receipt.wrong_at) == (content.size, at)


def split(whole: bytes, data: st.DataObject) -> Iterator[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    for start, end in zip([0, *places], [*places, len(whole)], strict=True):
        yield whole[start:end]


# The judgement


@pytest.mark.parametrize(
    ("stream", "side", "account"),
    [
        (WHOLE, Side.NEAR, Account(7, Side.NEAR, End.WHOLE, 3000)),
        (WHOLE, Side.FAR, Account(7, Side.FAR, End.WHOLE, 100)),
        (CUT, Side.NEAR, Account(7, Side.NEAR, End.CUT, 1500)),
        (CUT, Side.FAR, Account(7, Side.FAR, End.RESET, 20)),
        (CUT, Side.FAR, Account(7, Side.FAR, End.WHOLE, 100)),
    ],
)
def test_an_account_as_planned_is_no_problem(stream: Stream, side: Side, account: Account) -> None:
    assert judge(stream, side, account) == []


@pytest.mark.parametrize(
    ("stream", "account", "problem"),
    [
        (WHOLE, None, "the near end heard nothing of it, or did not end"),
        (WHOLE, Account(7, Side.NEAR, End.WHOLE, 2999), "saw an end in order after 2999 of 3000 bytes"),
        (WHOLE, Account(7, Side.NEAR, End.WHOLE, 3001), "got 3001 bytes, sent were 3000"),
        (WHOLE, Account(7, Side.NEAR, End.WHOLE, 3000, 5), "got a wrong byte at 5 of 3000"),
        (WHOLE, Account(7, Side.NEAR, End.RESET, 5, why="lost"), "was reset after 5 of 3000 bytes: lost"),
        (WHOLE, Account(7, Side.NEAR, End.LATE, 5), "hung after 5 of 3000 bytes"),
        (WHOLE, Account(7, Side.NEAR, End.REFUSED, why="timed out"), "was refused: timed out"),
        (CUT, Account(7, Side.NEAR, End.WHOLE, 3000), "saw an end in order where it was to reset"),
        (CUT, Account(7, Side.NEAR, End.RESET, 5), "was reset after 5 of 3000 bytes"),
        (CUT, Account(7, Side.NEAR, End.CUT, 5, 4), "got a wrong byte at 4 of 3000"),
    ],
)
def test_an_account_not_as_planned_is_a_problem(
    stream: Stream, account: Account | None, problem: str
) -> None:
    (found,) = judge(stream, Side.NEAR, account)
    assert problem in found


def test_an_end_in_order_in_place_of_a_reset_is_a_problem() -> None:
    (found,) = judge(CUT, Side.FAR, Account(7, Side.FAR, End.WHOLE, 99))
    assert "saw an end in order after 99 of 100 bytes" in found


def test_a_stream_is_complete_when_both_ends_have_reported() -> None:
    ledger = Ledger()
    ledger.note(Account(7, Side.NEAR, End.WHOLE, 3000))
    assert not ledger.complete([WHOLE])
    assert ledger.problems(WHOLE) == ["the far end heard nothing of it, or did not end"]
    ledger.note(Account(7, Side.FAR, End.WHOLE, 100))
    assert ledger.complete([WHOLE])
    assert not ledger.problems(WHOLE)
    assert ledger.got(WHOLE) == ledger.bytes == 3100


def test_accounts_survive_json() -> None:
    account = Account(7, Side.FAR, End.RESET, 5, 3, "lost")
    assert Account.from_json(account.to_json()) == account


def test_memory_descriptors_and_connections_left_over_are_named() -> None:
    before = Usage(50_000_000, 20, 0)
    most = Usage(before.memory + MOST_MEMORY, before.descriptors + MOST_DESCRIPTORS, 0)
    assert not most.excess(before)
    assert most.at_rest(before)
    for worse in (
        replace(most, memory=most.memory + 1),
        replace(most, descriptors=most.descriptors + 1),
        replace(most, connections=1),
    ):
        assert len(worse.excess(before)) == 1


# The report


def findings(*accounts: Account) -> Findings:
    found = Findings(replace(plan(), streams=(WHOLE,)))
    for account in accounts:
        found.ledger.note(account)
    return found


def test_a_good_run_says_so() -> None:
    found = findings(Account(7, Side.NEAR, End.WHOLE, 3000), Account(7, Side.FAR, End.WHOLE, 100))
    text = render(found, "again")
    assert found.good
    assert "Every stream was whole" in text
    assert "FAILED" not in text


def test_a_failed_run_names_the_stream_and_how_to_repeat_it() -> None:
    found = findings(Account(7, Side.NEAR, End.LATE, 5), Account(7, Side.FAR, End.RESET, 1))
    text = render(found, "python -m faults --seed 3")
    assert not found.good
    assert "stream 7 (both at once, by the socks, 100 bytes up, 3000 down):" in text
    assert "the near end hung after 5 of 3000 bytes" in text
    assert text.endswith("FAILED. Again: python -m faults --seed 3")


def test_trouble_beside_the_streams_fails_a_run_too() -> None:
    found = findings(Account(7, Side.NEAR, End.WHOLE, 3000), Account(7, Side.FAR, End.WHOLE, 100))
    found.trouble.append("the server wrote: warning: no")
    assert "the server wrote: warning: no" in render(found, "again")
    assert not found.good


# Random paths


@given(seeds)
def test_a_seed_makes_the_same_paths(seed: int) -> None:
    made = list(crossing.trials(seed, 5))
    assert made == list(crossing.trials(seed, 9))[:5]
    assert made != list(crossing.trials(seed + 1, 5))
    assert [trial.number for trial in made] == [1, 2, 3, 4, 5]


def test_the_paths_are_of_every_sort() -> None:
    ways = [way for trial in crossing.trials(1, 100) for way in (trial.link.down, trial.link.up)]
    for sort in ("jitter", "loss", "late", "rate", "queue"):
        assert sum(getattr(way, sort) > 0 for way in ways) > 0
    assert 0 < sum(way.police[0] > 0 for way in ways) < 100
    assert 0 < sum(way.burst[0] > 0 for way in ways) < 100
    assert min(way.delay for way in ways) < 3
    assert 200 < max(way.delay for way in ways) <= 300
    assert max(way.loss for way in ways) <= 5
    capacities = [trial.link.capacity for trial in crossing.trials(1, 100)]
    assert min(capacities) < 0.1
    assert 20 < max(capacities) <= 25


TRIAL = crossing.Trial(3, Link.alike("path 3", Direction(delay=250, jitter=50, rate=8)), 8_000_000)
GOOD = crossing.Outcome(whole=True, seconds=10, silent=4.8, keys=(0.6, 0.7))


def test_what_a_download_across_a_path_may_do() -> None:
    assert TRIAL.trip == pytest.approx(0.6)
    assert TRIAL.silence == pytest.approx(4.8)
    assert TRIAL.longest == pytest.approx(52)
    assert not GOOD.problems(TRIAL)
    assert GOOD.share(TRIAL) == pytest.approx(80)
    assert GOOD.waiting(TRIAL) == pytest.approx(100)


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (replace(GOOD, whole=False, why="5 of 8000000 bytes within 52 s"), "not whole: 5 of 8000000 bytes"),
        (replace(GOOD, whole=False), "not whole: bytes are wrong"),
        (replace(GOOD, silent=4.9), "silent for 4.9 s, expected 4.8 at most"),
        (replace(GOOD, keys=()), "no keystroke came back"),
    ],
)
def test_what_went_wrong_on_a_path_is_said(outcome: crossing.Outcome, problem: str) -> None:
    assert problem in crossing.line(TRIAL, outcome)
    text = crossing.summary([(TRIAL, GOOD), (TRIAL, outcome)], "python -m faults.paths --seed 3")
    assert "2 paths, 1 failed" in text
    assert text.endswith("FAILED: 3. Again: python -m faults.paths --seed 3")


def test_paths_without_a_problem_do_not_fail() -> None:
    assert "FAILED" not in crossing.summary([(TRIAL, GOOD)], "again")


# A small run


async def disturb(plan: Plan, ends: Ends) -> None:
    """Cut the path as planned. Every second cut also loses the datagrams under way."""
    whole, lost = ends.pipe.path, False
    try:
        for cut in plan.cuts():
            await asyncio.sleep(cut.peace)
            ends.pipe.path = replace(whole, loss=1.0)
            await asyncio.sleep(cut.seconds)
            ends.pipe.path = whole
            lost = not lost
            for side in (ends.far_end, ends.near_end):
                if lost and side.ready and side.carrier.link is not None:
                    side.carrier.link.fail(LinkEnd.SILENT)
    finally:
        ends.pipe.path = whole


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_streams_survive_a_faulty_path_that_is_cut(seed: int) -> None:
    made = Plan.make(seed, replace(SHAPE, streams=150, total=12_000_000))
    ledger, told = Ledger(), asyncio.Event()

    def note(account: Account) -> None:
        ledger.note(account)
        told.set()

    async with (
        tunnel(Path(delay=0.01, loss=0.02, rate=8e6)) as ends,
        service(lambda reader, writer: attend(made, note, reader, writer)) as port,
    ):

        async def open(stream: Stream) -> Opened:
            return await ends.open(port, early=stream.way is Way.FORWARD)

        ends.pipe.duplication, ends.pipe.reordering = 0.02, 0.05
        disturbing = asyncio.create_task(disturb(made, ends))
        await carry_out(made, made.streams, open, note)
        disturbing.cancel()
        with suppress(asyncio.CancelledError):
            await disturbing
        async with asyncio.timeout(120):
            while not ledger.complete(made.streams):
                told.clear()
                await told.wait()
        assert {
            stream.number: ledger.problems(stream) for stream in made.streams if ledger.problems(stream)
        } == {}
        assert ("near", SessionEvent(Change.RESUMED)) in ends.changes
        assert not ends.ended
        async with asyncio.timeout(120):
            while not ends.near_end.ready:
                await asyncio.sleep(0.01)
        await ends.quiet()
        assert ends.near_end.streams == ends.far_end.streams == []
