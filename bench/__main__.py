"""`python -m bench [ROW…]`: measure the rows, print them and write the report."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from bench import (
    calls,
    crowds,
    detours,
    http3,
    inside,
    keystrokes,
    machine,
    neighbours,
    prompts,
    report,
    streams,
)
from bench.emulator import Emulator
from bench.plot import Axis, Dot, Plot, scatter
from bench.plot import render as render_plot
from bench.report import Result
from bench.rivals import rivals
from bench.run import Outcome, Row, Run
from toxproxy.errors import ToxproxyError

_DOCS = Path(__file__).parents[1] / "docs"
_RESULTS = _DOCS / "performance.json"
_REPORT = _DOCS / "performance.md"
_NOTES = _DOCS / "performance-notes.md"

_ROWS = {
    row.name: row
    for row in (
        *keystrokes.ROWS,
        *streams.ROWS,
        *neighbours.ROWS,
        *detours.ROWS,
        *crowds.ROWS,
        *calls.ROWS,
        *http3.ROWS,
        *inside.ROWS,
        *prompts.ROWS,
        streams.LOSS,
        crowds.DELAY,
    )
}
_PLOTS = {
    "loss": Plot("Throughput over loss (100 Mbit/s, 50 ms)", Axis("loss, %"), Axis("MB/s")),
    "delay": Plot(
        f"Time for {crowds.OBJECTS} objects of 30 KB, {crowds.AT_ONCE} at a time (100 Mbit/s, 1 % loss)",
        Axis("round trip, ms"),
        Axis("seconds"),
    ),
}
# Pictures with a dot for each program and link, from the rows of these links.
_SCATTERS = {
    "lines": ("A keystroke beside a download, over lines", ("wan", "deep", "slow", "adsl")),
    "rough": (
        "A keystroke beside a download, where packets are policed, late, or lost together",
        ("policed", "shallow", "wifi", "burst"),
    ),
    "mobile": ("A keystroke beside a download, where the rate changes all the time", ("lte", "umts")),
}


def main() -> None:
    """Measure the rows that the command line names. The exit status is 1 if one of them failed."""
    options = _options()
    if options.report:
        _report(_read())
        return
    try:
        good = asyncio.run(_measure(options))
    except ToxproxyError as error:
        sys.exit(f"bench: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    sys.exit(0 if good else 1)


def _options() -> argparse.Namespace:
    names = "\n".join(f"  {row.name:<14}{row.link.name:<8}{row.what}" for row in _ROWS.values())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure toxproxy beside what people use instead, on emulated links.",
        epilog=f"rows:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all of them")
    parser.add_argument("--quick", action="store_true", help="measure once, with less data; write nothing")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the report again")
    parser.add_argument("--tuntox", type=Path, metavar="PROGRAM", help="also compare with this tuntox")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in _ROWS]:
        parser.error(f"expected rows of {', '.join(_ROWS)}, found {', '.join(unknown)}")
    return options


async def _measure(options: argparse.Namespace) -> bool:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    known = rivals(options.tuntox)
    here = [rival for rival in known if not rival.missing]
    for rival in known:
        if rival.missing:
            print(f"Not here, so not compared with: {rival.name} ({rival.missing}).", flush=True)
    progress = _Progress(options.rows or list(_ROWS))
    good = True
    with Emulator() as emulator:
        for name in progress.names:
            run = Run(emulator, progress.say, rivals={rival.name: rival.cross for rival in here})
            if options.quick:
                run.repetitions, run.scale = 1, 0.3
            progress.begin(name)
            outcome = await _try(run, _ROWS[name])
            good = good and outcome is not None
            if outcome is not None and not options.quick:
                _write(_ROWS[name], run, outcome)
    return good


class _Progress:
    """Prints to standard error the elapsed time, the number of the row, and what is being done."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._began = time.monotonic()
        self._where = ""

    def begin(self, name: str) -> None:
        """Note that a row begins."""
        self._where = f"{self.names.index(name) + 1} of {len(self.names)}, {name}"

    def say(self, text: str) -> None:
        """Print what is being done for the row."""
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        print(f"{minutes:3}:{seconds:02}  {self._where}: {text}", file=sys.stderr, flush=True)


async def _try(run: Run, row: Row) -> Outcome | None:
    """Measure a row and print it. None if that failed."""
    try:
        async with asyncio.timeout(row.seconds):
            outcome = await row.measure(run)
    except (ToxproxyError, TimeoutError) as error:
        print(f"{row.name}: failed: {error or f'not finished within {row.seconds:g} s'}", flush=True)
        return None
    print(f"{row.name}: {row.what}; {row.link}")
    if run.others >= report.DISTURBED:
        print(f"    disturbed: other programs used up to {run.others:.0f} % of the machine")
    for figure in outcome.figures:
        print(report.line(figure))
    for series in outcome.series:
        if not outcome.figures:
            print(f"    {series.name:<16}" + "  ".join(f"{x:g}: {y:.3g}" for x, y in series.points))
    print(flush=True)
    return outcome


def _write(row: Row, run: Run, outcome: Outcome) -> None:
    """Add a row to the results and write the report again."""
    known, here = _read(), machine.description()
    result = Result(
        name=row.name,
        what=row.what,
        link=str(row.link),
        figures=tuple(outcome.figures),
        series=tuple(outcome.series),
        when=date.today().isoformat(),
        version=here["toxproxy"],
        repetitions=run.repetitions,
        others=run.others,
    )
    known["rows"][row.name] = asdict(result)
    known["machine"] = here
    _DOCS.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    _report(known)


def _read() -> dict[str, Any]:
    """All results so far."""
    known: dict[str, Any] = {"rows": {}, "machine": {}}
    return known | (json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {})


def _report(known: dict[str, Any]) -> None:
    """Write the report and the plots from the results and the notes."""
    results = [Result.from_json(known["rows"][name]) for name in _ROWS if name in known["rows"]]
    words = report.notes(_NOTES.read_text()) if _NOTES.exists() else {}
    shown = {figure.what for result in results for figure in result.figures}
    missing = [
        rival.name
        for rival in rivals()
        if not any(what == rival.name or what.startswith(f"{rival.name}, ") for what in shown)
    ]
    _REPORT.write_text(report.render(results, known["machine"], missing, words, _plots(results)))


def _plots(results: Sequence[Result]) -> list[str]:
    """Write the plots. Returns the Markdown that shows them."""
    shown = [_scatter(name, title, links, results) for name, (title, links) in _SCATTERS.items()]
    for result in results:
        if result.name in _PLOTS and result.series:
            plot = _PLOTS[result.name]
            shown.append(_drawn(result.name, plot.title, render_plot(plot, result.series)))
    return [markdown for markdown in shown if markdown]


def _scatter(name: str, title: str, links: Sequence[str], results: Sequence[Result]) -> str:
    """Draw the rows of some links. Empty if none of them was measured."""
    measured = {result.name: result for result in results}
    dots = [
        Dot(series.name, link, *point)
        for link in links
        if (result := measured.get(f"keys-{link}")) is not None
        for series in result.series
        for point in series.points
    ]
    plot = Plot(title, Axis("download, % of the link"), Axis("p95 of a keystroke, ms", log=True))
    return _drawn(name, title, scatter(plot, dots)) if dots else ""


def _drawn(name: str, title: str, svg: str) -> str:
    """Write a plot. Returns the Markdown that shows it."""
    (_DOCS / f"performance-{name}.svg").write_text(svg)
    return f"![{title}](performance-{name}.svg)"


if __name__ == "__main__":
    main()
