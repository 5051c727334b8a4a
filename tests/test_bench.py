"""The benchmark's own parts: links and their emulation, figures, the report, the plots."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import links, report, traces
from bench.emulator import FAR_ADDRESS, Network
from bench.figures import Bound, Figure, Series, jain, percentile, ratios, slope
from bench.keystrokes import Typed, typed
from bench.links import Direction, Link
from bench.origin import log, pieces
from bench.plot import Axis, Dot, Plot, log_ticks, render, scatter, ticks
from bench.report import Result
from bench.tunnels import Tunnel, course
from tests.emulated import emulator

SVG = "{http://www.w3.org/2000/svg}"

FAST = Figure("down", "MB/s", (11.0, 12.0, 11.5), Bound(10))
LATE = Figure("p95", "ms", (120.0,), Bound(80, at_most=True))
PLAIN = Figure("ssh", "MB/s", (9.87654,))

finite = st.floats(-1e9, 1e9)


def result(*figures: Figure, name: str = "wan", others: float = 0.0) -> Result:
    return Result(
        name=name,
        what="one stream",
        link=str(links.WAN),
        figures=figures,
        series=(Series("toxproxy", ((0.0, 11.5), (1.0, 11.4))),),
        when="2024-03-12",
        version="0.1.0",
        repetitions=3,
        others=others,
    )


def written(*results: Result, words: str = "") -> str:
    return report.render(results, {"processor": "a fast one"}, ["kcptun"], report.notes(words), [])


# Links


def test_a_link_by_its_name() -> None:
    assert links.parse(["wan"]) == Link.alike("wan", Direction(delay=25, loss=1, rate=100, queue=600))


def test_a_link_by_its_properties() -> None:
    link = links.parse(["delay=0.5", "police=20:60,burst=0.1:8"])
    assert link.down == link.up == Direction(delay=0.5, police=(20, 60), burst=(0.1, 8))


def test_a_link_by_its_name_and_what_differs() -> None:
    link = links.parse(["adsl", "loss=1", "up:rate=2"])
    assert link.down == Direction(delay=15, rate=16, queue=400, loss=1)
    assert link.up == Direction(delay=15, rate=2, queue=64, loss=1)


def test_the_words_of_a_link_make_the_same_link() -> None:
    for link in links.LINKS.values():
        again = links.parse(link.words() or ["clean"])
        assert (again.down, again.up) == (link.down, link.up)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "one of clean, far,"),
        (["lan"], "one of clean, far,"),
        (["wan", "loss"], "KEY=VALUE"),
        (["wan", "far"], "KEY=VALUE"),
        (["speed=1"], "KEY=VALUE with a key of delay,"),
        (["left:rate=1"], "KEY=VALUE with a key of delay,"),
        (["delay=fast"], "a number, found 'delay=fast'"),
        (["delay=1:2"], "a number, found 'delay=1:2'"),
        (["police=20"], "two numbers with a colon between them, found 'police=20'"),
        (["burst=1:2:3"], "two numbers with a colon between them, found 'burst=1:2:3'"),
        (["delay=-1"], "numbers from 0, percentages up to 100, found delay=-1"),
        (["delay=nan"], "numbers from 0, percentages up to 100, found delay=nan"),
        (["burst=1:101"], "numbers from 0, percentages up to 100, found burst=1:101"),
    ],
)
def test_words_that_are_no_link_are_refused(words: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected {expected}")):
        links.parse(words)


def test_a_link_describes_only_what_limits_it() -> None:
    assert str(links.CLEAN) == "0 ms round trip"
    assert str(links.DEEP) == "50 ms round trip, 20 Mbit/s, 2500 KiB queue"
    assert str(links.ADSL) == ("30 ms round trip; down: 16 Mbit/s, 400 KiB queue; up: 1 Mbit/s, 64 KiB queue")
    assert str(links.parse(["duplication=2", "corruption=0.5"])) == (
        "0 ms round trip, 2 % duplicated, 0.5 % corrupted"
    )


@pytest.mark.parametrize("key", ["loss", "late", "duplication", "reordering", "corruption"])
@pytest.mark.parametrize("share", [101, -1])
def test_a_fault_of_more_than_100_percent_is_refused(key: str, share: int) -> None:
    with pytest.raises(ValueError, match="percentages up to 100"):
        links.parse([f"{key}={share}"])


def test_the_capacity_is_what_the_link_lets_through() -> None:
    assert links.CLEAN.capacity == 0
    assert links.WAN.capacity == 12.5
    assert links.POLICED.capacity == 2.5
    assert links.ADSL.capacity == 2
    assert links.LTE.down.within(22) == traces.rate("lte-down", 22) / 8


# Traces


@pytest.mark.parametrize("name", traces.SHAPES)
def test_a_trace_is_the_same_every_time(name: str) -> None:
    assert traces.make(traces.SHAPES[name]) == list(traces.named(name))
    other = replace(traces.SHAPES[name], seed=99)
    assert traces.make(other) != list(traces.named(name))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("lte-down", 3, 6), ("lte-up", 4, 9), ("umts-down", 1.5, 2.5), ("umts-up", 0.7, 1.3)],
)
def test_a_trace_is_like_the_line_that_it_stands_for(name: str, least: float, most: float) -> None:
    times = traces.named(name)
    assert list(times) == sorted(times)
    assert least < traces.rate(name) < most
    assert least < traces.rate(name, 22) < most
    assert max(after - before for before, after in pairwise(times)) > 150  # it is gone now and then


def test_a_trace_is_repeated() -> None:
    seconds = traces.SHAPES["lte-up"].seconds
    assert traces.rate("lte-up", 3 * seconds) == pytest.approx(traces.rate("lte-up"))


# The emulated link

DATAGRAMS = 500
STRAY = 20  # packets that the kernel itself sends by IPv6

_COUNT = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9))
sock.settimeout(1)
print("listening", flush=True)
try:
    while True:
        print(sock.recv(2000).hex())
except TimeoutError:
    pass
"""

_SEND = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sock.sendto(number.to_bytes(2, "big") * 50, (sys.argv[1], 9))
    time.sleep(float(sys.argv[3]))
"""


def carried(network: Network, pause: float = 0.001) -> list[bytes]:
    """Send DATAGRAMS datagrams, each its number 50 times. Returns those that arrive at the far end.

    `pause`: seconds after each one, or longer on a busy machine.
    """
    command = (*network.far.command, sys.executable, "-c", _COUNT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        sender = (*network.near.command, sys.executable, "-c", _SEND, FAR_ADDRESS, str(DATAGRAMS), str(pause))
        subprocess.run(sender, check=True)
        return [bytes.fromhex(line) for line in receiver.stdout]


def counted(network: Network) -> Counter[str]:
    """End the link. Returns its counts of the packets from near to far."""
    (line,) = (line for line in network.end().splitlines() if line.startswith("near to far"))
    return Counter({name: int(number) for number, name in re.findall(r"(\d+) (\w+)", line)})


def test_a_faulty_link_duplicates_reorders_and_corrupts() -> None:
    faulty = Link.alike("faulty", Direction(delay=5, loss=10, duplication=20, reordering=20, corruption=20))
    with emulator() as here, here.network(faulty) as network:
        arrived, said = carried(network), counted(network)
    times = Counter(arrived)
    wrong = [datagram for datagram in times if datagram != datagram[:2] * 50]
    late = sum(later < earlier for earlier, later in pairwise(arrived))
    assert DATAGRAMS / 20 < said["lost"] < DATAGRAMS / 5
    assert DATAGRAMS / 10 < said["duplicated"] < DATAGRAMS / 3
    assert 0 <= said["lost"] - (DATAGRAMS - len(times)) < STRAY
    assert 0 <= said["duplicated"] - (times.total() - len(times)) < STRAY
    assert len(wrong) == said["corrupted"] > DATAGRAMS / 10
    assert all(flipped(datagram) == 1 for datagram in wrong)
    assert late > DATAGRAMS / 20


LINK_ARGUMENTS = [
    (["near", "far"], "usage: link NEAR FAR SEED [down:|up:]KEY=VALUE..."),
    (["near", "far", "one"], "link: expected a whole number as the seed, found one"),
    (["near", "far", "1", "delay"], "link: expected KEY=VALUE, found delay"),
    (["near", "far", "1", "up:speed=1"], "link: expected a known key, found up:speed=1"),
    (["near", "far", "1", "delay=fast"], "expected a number from 0, percentages up to 100, found delay=fast"),
    (["near", "far", "1", "delay=nan"], "expected a number from 0, percentages up to 100, found delay=nan"),
    (
        ["near", "far", "1", "down:loss=101"],
        "expected a number from 0, percentages up to 100, found down:loss",
    ),
    (["near", "far", "1", "police=20"], "expected two numbers from 0 with a colon between them"),
    (["near", "far", "1", "burst=1:101"], "expected two numbers from 0 with a colon between them"),
    (["near", "far", "1", "trace=/nowhere"], "link: expected a trace that can be read, found /nowhere"),
    (["near", "far", "1", "trace=/dev/null"], "expected a trace of whole milliseconds that is longer than 0"),
]


@pytest.fixture(scope="session")
def link_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    program = tmp_path_factory.mktemp("link") / "link"
    source = Path(links.__file__).with_name("link.c")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)], check=True)
    return str(program)


@pytest.mark.parametrize(("arguments", "said"), LINK_ARGUMENTS)
def test_an_argument_that_the_link_does_not_know_is_named(
    link_program: str, arguments: list[str], said: str
) -> None:
    done = subprocess.run([link_program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_trace_that_goes_back_in_time_is_refused(link_program: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("1\n5\n4\n")
    arguments = [link_program, "near", "far", "1", f"trace={trace}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected rising times in a trace" in done.stderr


@contextmanager
def network(*words: str) -> Iterator[Network]:
    """A network of a link by its words. Skips the test where there can't be one."""
    with emulator() as here, here.network(links.parse(words)) as made:
        yield made


def test_a_policer_drops_what_exceeds_its_rate() -> None:
    with network("police=0.1:10") as made:
        arrived, said = carried(made, pause=0.0001), counted(made)
    # 128 bytes each: 10 KiB and what the rate gives until the last one is sent.
    assert 80 <= len(arrived) < DATAGRAMS / 2
    assert said["policed"] == pytest.approx(DATAGRAMS - len(arrived), abs=STRAY)


def test_losses_come_in_bursts() -> None:
    with network("burst=2:10") as made:
        arrived, said = carried(made), counted(made)
    numbers = [int.from_bytes(datagram[:2], "big") for datagram in arrived]
    gaps = [after - before - 1 for before, after in pairwise(numbers) if after - before > 1]
    assert DATAGRAMS / 20 < said["lost"] < DATAGRAMS / 2
    assert sum(gaps) / len(gaps) > 3  # by chance, as many losses are hardly ever more than one in a row


def test_late_packets_are_passed_by_others() -> None:
    with network("delay=5", "late=10") as made:
        arrived, said = carried(made), counted(made)
    assert len(set(arrived)) == DATAGRAMS
    late = sum(later < earlier for earlier, later in pairwise(arrived))
    assert late == pytest.approx(said["late"], abs=STRAY + said["late"] / 3)
    assert said["late"] > DATAGRAMS / 20


def test_jitter_leaves_the_packets_in_order() -> None:
    with network("delay=1", "jitter=30") as made:
        arrived = carried(made)
    assert len(arrived) == DATAGRAMS
    assert arrived == sorted(arrived)


def test_a_trace_gives_the_rate(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("10\n20\n200\n")
    with network(f"trace={trace}", "queue=20") as made:
        arrived, said = carried(made, pause=0.0001), counted(made)
    assert said["dropped"] == pytest.approx(DATAGRAMS - len(arrived), abs=STRAY)
    assert 160 <= len(arrived) < DATAGRAMS  # the queue, and something of the trace


def test_each_direction_has_its_own_properties() -> None:
    with network("up:loss=100") as made:
        made.begin_traces()
        assert made.counts().up["lost"] == pytest.approx(0, abs=STRAY)
        assert carried(made) == []
        counts = made.counts()
    assert counts.up["lost"] == pytest.approx(DATAGRAMS, abs=STRAY)
    assert counts.up["small"] == pytest.approx(DATAGRAMS, abs=STRAY)
    assert counts.down["lost"] == 0


def flipped(datagram: bytes) -> int:
    """How many bits differ from the number that a datagram repeats."""
    (number, _), *_ = Counter(datagram[at : at + 2] for at in range(0, len(datagram), 2)).most_common()
    expected = number * (len(datagram) // 2)
    return (int.from_bytes(datagram, "big") ^ int.from_bytes(expected, "big")).bit_count()


# Figures


def test_the_value_is_the_median() -> None:
    assert FAST.value == 11.5


def test_a_bound_can_be_a_least_or_a_most() -> None:
    assert FAST.reached is True
    assert LATE.reached is False
    assert PLAIN.reached is None
    assert Bound(80, at_most=True).holds(80)
    assert Bound(80).holds(80)


def test_a_figure_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        Figure("nothing", "s", ())


def test_the_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.95) == 95
    assert percentile(values, 1) == 100
    assert percentile([7.0], 0.01) == 7


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        percentile(values, share)


@given(st.lists(finite, min_size=1, max_size=50), st.floats(0.001, 1))
def test_a_percentile_is_not_exceeded_by_its_share_of_the_values(values: list[float], share: float) -> None:
    limit = percentile(values, share)
    assert sum(value <= limit for value in values) >= share * len(values) - 1e-9


def test_a_ratio_is_taken_for_each_repetition() -> None:
    assert ratios([6, 8], [3, 2]) == (2, 4)
    assert ratios([1], [0]) == (math.inf,)


# The report


def test_results_survive_json() -> None:
    before = result(FAST, LATE, PLAIN)
    assert Result.from_json(json.loads(json.dumps(asdict(before)))) == before


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123456, "0.0123"), (9.87654, "9.88"), (12.0, "12"), (1234.5, "1,234"), (0, "0")]
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_summary_has_the_figures_with_a_bound() -> None:
    summary = written(result(FAST, LATE, PLAIN)).partition("## Row by row")[0]
    assert "| `wan` | one stream | down | 11.5 MB/s | ≥ 10 | reached | 11 to 12 |" in summary
    assert "| `wan` | one stream | p95 | 120 ms | ≤ 80 | not reached | once |" in summary
    assert "ssh" not in summary


def test_a_miss_says_how_far() -> None:
    text = written(result(LATE, replace(FAST, bound=Bound(23))))
    assert "- `wan`, p95: 120 ms where ≤ 80 is wanted, 50 % too much." in text
    assert "- `wan`, down: 11.5 MB/s where ≥ 23 is wanted, 50 % too little." in text


def test_without_a_miss_there_is_no_list_of_misses() -> None:
    assert "Not reached" not in written(result(FAST))


def test_every_row_has_the_command_that_repeats_it() -> None:
    text = written(result(PLAIN), result(FAST, name="far"))
    assert "`python -m bench wan`" in text
    assert "`python -m bench far`" in text


def test_a_disturbed_row_is_marked() -> None:
    assert "**Disturbed:** others used up to 25 %" in written(result(FAST, others=25))
    assert "| reached, disturbed |" in written(result(FAST, others=25))
    assert "isturbed" not in written(result(FAST, others=5))


def test_notes_are_split_by_the_row_that_a_heading_names() -> None:
    words = "Of everything.\n\n## wan\n\nOf the one.\n\n## `far`\nOf the other.\n"
    assert report.notes(words) == {"": "Of everything.", "wan": "Of the one.", "far": "Of the other."}
    text = written(result(FAST), result(FAST, name="far"), words=words)
    places = [
        text.index(part) for part in ("Of everything", "### `wan`", "Of the one", "### `far`", "Of the other")
    ]
    assert places == sorted(places)


def test_programs_that_are_compared_have_a_line_each() -> None:
    figures = [
        Figure(f"{program}, {what}", unit, (value,))
        for program, value in (("toxproxy", 2.0), ("ssh (bbr)", 3.0))
        for what, unit in (("download", "MB/s"), ("p95", "ms"))
    ]
    text = written(result(*figures))
    assert (
        "| | download, MB/s | p95, ms |\n| --- | ---: | ---: |\n| toxproxy | 2 | 2 |\n| ssh (bbr) | 3 | 3 |"
        in text
    )
    assert "| toxproxy, download | 2 MB/s | once |  |" in written(result(*figures[:3]))


def test_a_row_of_several_words_has_its_notes() -> None:
    assert report.notes("## keys-wan\n\nOf the one.\n") == {"": "", "keys-wan": "Of the one."}


def test_missing_rivals_are_named() -> None:
    assert "Not compared with, since not here: kcptun." in written(result(FAST))


# The plots


@given(st.floats(1e-6, 1e9))
def test_ticks_reach_the_highest_value(highest: float) -> None:
    marks = ticks(highest)
    assert marks[0] == 0
    assert marks[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(marks) <= 11


@given(st.floats(1e-3, 1e6), st.floats(1, 1e4))
def test_logarithmic_ticks_hold_the_values_between_them(lowest: float, factor: float) -> None:
    marks = log_ticks(lowest, lowest * factor)
    assert marks[0] <= lowest
    assert marks[-1] >= lowest * factor
    assert all(before < after for before, after in pairwise(marks))


def test_a_logarithmic_axis_has_no_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        log_ticks(0, 10)


def test_a_plot_is_svg_with_a_line_for_each_series() -> None:
    lines = [Series("a < b", ((0, 1), (1, 3), (5, 2))), Series("c", ((0, 2), (5, 9)))]
    root = ElementTree.fromstring(render(Plot("a & b", Axis("loss, %"), Axis("MB/s")), lines))
    drawn = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in drawn] == [3, 2]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a & b", "a < b", "c", "loss, %", "MB/s"} <= set(texts)


def test_points_stay_inside_the_plot() -> None:
    root = ElementTree.fromstring(
        render(Plot("t", Axis("x", log=True), Axis("y")), [Series("a", ((3.0, 0.0), (700.0, 99.0)))])
    )
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    (line,) = root.iter(f"{SVG}polyline")
    for point in line.attrib["points"].split():
        x, y = map(float, point.split(","))
        assert 0 < x < width
        assert 0 < y < height


def test_a_scatter_plot_has_a_dot_and_a_label_for_each_point() -> None:
    groups = [f"program {number}" for number in range(10)]
    dots = [
        Dot(group, link, 9.0 * number, 10.0 ** (1 + number / 4))
        for number, group in enumerate(groups)
        for link in ("wan", "a < b")
    ]
    plot = Plot("rate & delay", Axis("%"), Axis("ms", log=True))
    root = ElementTree.fromstring(scatter(plot, dots))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    circles = list(root.iter(f"{SVG}circle"))
    assert len(circles) == len(dots) + len(groups)
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    texts = Counter(text.text for text in root.iter(f"{SVG}text"))
    assert texts["a < b"] == texts["wan"] == len(groups)
    assert all(texts[group] == 1 for group in groups)
    assert texts["rate & delay"] == 1


def test_a_scatter_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        scatter(Plot("t", Axis("x"), Axis("y")), [])


def test_a_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        render(Plot("t", Axis("x"), Axis("y")), [Series("a", ())])


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(2, 50))
def test_the_slope_of_a_line(a: float, b: float, count: int) -> None:
    assert slope([(x, a + b * x) for x in range(count)]) == pytest.approx(b, abs=1e-6)


def test_a_single_point_has_no_slope() -> None:
    assert slope([(3.0, 4.0)]) == 0


# A keystroke beside a download


def test_the_figures_of_a_keystroke_in_one_line() -> None:
    keys = tuple(float(number) for number in range(1, 101))
    got = Typed(down=2.25, up=0, keys=keys, silence=0.123, near=15.04, far=19.96, acks=(1, 200))
    assert str(got) == "2.25 MB/s · 50/95/100 ms · longest gap 0.12 s · 20.0/15.0 CPU s per GB"
    assert str(replace(got, up=0.1)).startswith("2.25 down, 0.1 up MB/s")


async def test_a_download_an_upload_and_keystrokes_are_measured_at_once(tmp_path: Path) -> None:
    with network("delay=10", "rate=20", "queue=100") as made:
        async with course(made, tmp_path) as across:
            plain = Tunnel("plain TCP", (made.far.address, across.port), (os.getpid(), os.getpid()))
            got = await typed(across, plain, 1.5, down=1, up=1)
    assert 0 < got.down <= 2.5
    assert 0 < got.up <= 2.5
    assert got.p50 >= 20
    assert 10 < len(got.keys) <= 31
    assert 0 < got.silence <= 1.5
    assert min(got.acks) > 10


# What the origin sends


@given(st.integers(0, 3_000_000))
def test_the_origin_sends_as_much_as_it_is_asked_for(count: int) -> None:
    assert sum(len(piece) for piece in pieces(bytes(700_000), count)) == count


def test_the_log_is_the_same_every_time() -> None:
    assert log(50) == log(50)
    assert log(50).count(b"\n") == 50


def test_jains_index_says_how_equal_shares_are() -> None:
    assert jain([3, 3, 3, 3]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1
    assert jain([1, 2]) == 0.9


@given(st.lists(st.integers(0, 1 << 40), min_size=1))
def test_jains_index_is_between_one_nth_and_one(shares: list[int]) -> None:
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9
