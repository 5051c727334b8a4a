"""A speed test in sentences."""

from __future__ import annotations

from dataclasses import replace

from toxproxy.control.snapshots import PathKind
from toxproxy.control.speeds import DirectionSnapshot, SpeedPhase, SpeedSnapshot
from toxproxy.program.speed import bar, lines

DOWN = DirectionSnapshot(moved_bytes=50_000_000, bytes_per_s=10_000_000.0, loss_share=0.012, rtt_ms=60.0)
UP = DirectionSnapshot(moved_bytes=500_000, bytes_per_s=100_000.0, loss_share=0.0, rtt_ms=250.0)
SHOT = SpeedSnapshot(
    peer_key="5FDC96D235715B3C" * 4,
    path=PathKind.DIRECT,
    phase=SpeedPhase.FINISHED,
    progress_share=1.0,
    bytes_per_s=None,
    idle_rtt_ms=50.0,
    download=DOWN,
    upload=UP,
)


def test_the_result_says_which_direction_makes_a_queue() -> None:
    assert list(lines(SHOT)) == [
        "Server 5FDC96D23571, direct: 50 ms without load.",
        "",
        "  download  10.0 MB/s (80.0 Mbit/s), 1.2 % lost, 60 ms under load (+10 ms)",
        "  upload    100 kB/s (0.8 Mbit/s), 0.0 % lost, 250 ms under load (+200 ms)",
        "",
        "The upload makes a queue on the line: everything else on it waits 200 ms longer.",
    ]


def test_without_a_queue_there_is_no_word_of_it() -> None:
    assert len(list(lines(replace(SHOT, upload=DOWN)))) == 4


def test_what_is_not_known_is_left_out() -> None:
    unknown = replace(DOWN, loss_share=None, rtt_ms=None)
    shown = list(lines(replace(SHOT, idle_rtt_ms=None, download=unknown, upload=unknown)))
    assert shown[0] == "Server 5FDC96D23571, direct: no answer to a ping without load."
    assert shown[2] == "  download  10.0 MB/s (80.0 Mbit/s)"


def test_the_bar_fills() -> None:
    half = replace(SHOT, phase=SpeedPhase.UPLOAD, progress_share=0.5, bytes_per_s=1_500_000.0)
    assert bar(half) == "upload   [############............] 1.5 MB/s"
    assert bar(replace(half, progress_share=1.3, bytes_per_s=0.0)) == f"upload   [{'#' * 24}]"
