"""Connections that are watched."""

from __future__ import annotations

from dataclasses import replace

from tests.control.examples import CLIENT, OTHER_KEY, PEER, SERVER_KEY
from toxproxy.control.snapshots import StreamSnapshot
from toxproxy.mux.stream import StreamState
from toxproxy.program.live import KEYS, LiveList

STREAM = StreamSnapshot(
    id="A-1",
    peer_key=SERVER_KEY,
    target="wiki.lan:80",
    state=StreamState.OPEN,
    age_s=60.0,
    sent_bytes=600,
    received_bytes=6_000_000,
    unsent_bytes=0,
)
OTHER = replace(STREAM, id="A-2", target="127.0.0.1:22", received_bytes=0, sent_bytes=0)


def later(stream: StreamSnapshot, received: int) -> StreamSnapshot:
    return replace(stream, age_s=stream.age_s + 1, received_bytes=stream.received_bytes + received)


def test_at_first_a_rate_is_that_of_the_whole_age_and_then_of_the_last_time() -> None:
    live = LiveList()
    live.update([STREAM], 10.0)
    assert live.streams[0].received_bytes_per_s == 100_000
    live.update([later(STREAM, 500)], 12.0)
    assert (live.streams[0].received_bytes_per_s, live.streams[0].sent_bytes_per_s) == (250, 0)


def test_the_fastest_is_first_and_the_chosen_one_stays_chosen() -> None:
    live = LiveList()
    live.update([OTHER, STREAM], 10.0)
    assert [each.stream.id for each in live.streams] == ["A-1", "A-2"]
    live.move(1)
    assert live.chosen == "A-1"
    live.move(1)
    assert live.chosen == "A-2"
    live.move(5)
    assert live.chosen == "A-2"
    live.update([later(STREAM, 0), later(OTHER, 9)], 11.0)
    assert ([each.stream.id for each in live.streams], live.chosen) == (["A-2", "A-1"], "A-2")
    live.update([later(STREAM, 0)], 12.0)
    assert live.chosen is None


def test_the_lines_of_the_screen() -> None:
    live = LiveList()
    live.update([STREAM, OTHER], 10.0)
    live.move(1)
    lines, marked = live.lines(CLIENT, 24)
    assert lines[0] == "Connected to the server, direct (23 ms)."
    assert [" ".join(line.split()) for line in lines[2:5]] == [
        "received sent for where to",
        "6.0 MB 100 kB/s 600 B 10 B/s 1 min wiki.lan:80",
        "0 B 0 B/s 0 B 0 B/s 1 min 127.0.0.1:22",
    ]
    assert len({line.rindex("  ") for line in lines[2:5]}) == 1
    assert (lines[5:], marked) == (["", KEYS], 3)


def test_with_several_others_each_is_named() -> None:
    live = LiveList()
    live.update([STREAM, replace(OTHER, peer_key=OTHER_KEY)], 10.0)
    two = replace(CLIENT, peers=(PEER, replace(PEER, key=OTHER_KEY, name="laptop")))
    rows = live.lines(two, 24)[0][3:5]
    assert [row.split("  ")[-1] for row in rows] == ["5FDC96D23571: wiki.lan:80", "laptop: 127.0.0.1:22"]


def test_a_small_screen_shows_the_chosen_one_and_how_many_more_there_are() -> None:
    live = LiveList()
    live.update([replace(STREAM, id=f"A-{n}", received_bytes=1000 - n) for n in range(100)], 10.0)
    for _ in range(50):
        live.move(1)
    assert live.chosen == "A-49"
    lines, marked = live.lines(CLIENT, 10)
    assert (len(lines), marked, lines[-2]) == (10, 7, "95 more")
    assert live.lines(CLIENT, 2)[0] == ["Connected to the server, direct (23 ms).", ""]
    assert live.lines(CLIENT, 0)[0] == []


def test_nothing_to_show() -> None:
    live = LiveList()
    live.update([], 10.0)
    live.move(1)
    assert live.chosen is None
    assert live.lines(CLIENT, 24)[0][3:] == ["no connections", KEYS]
    assert live.lines(CLIENT, 24, "the connection to wiki.lan:80 is closed")[0][3].endswith("is closed")
