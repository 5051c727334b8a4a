"""The report, `docs/performance.md`. Pure: results in, text out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.figures import Bound, Figure, Series

DISTURBED = 10.0  # percent of the machine; a row during which others use more is marked as disturbed

_INTRODUCTION = """\
Written by `python -m bench`, which needs root to make network namespaces; the words are from
`docs/performance-notes.md`. Every figure comes from real processes across an emulated link. A ratio
compares what ran within minutes on the same machine; absolute figures are this machine's."""

_NOTE = re.compile(r"^## *`?([a-z-]+)`? *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a row, and when it was measured."""

    name: str
    what: str
    link: str
    figures: tuple[Figure, ...]
    series: tuple[Series, ...]
    when: str
    version: str
    repetitions: int
    others: float

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """What `dataclasses.asdict` made, there and back through JSON."""
        figures = tuple(map(Figure.from_json, data["figures"]))
        series = tuple(map(Series.from_json, data["series"]))
        return cls(**(data | {"figures": figures, "series": series}))


def number(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def wanted(bound: Bound) -> str:
    """The bound of a figure, for the report."""
    return f"{'≤' if bound.at_most else '≥'} {number(bound.limit)}"


def spread(figure: Figure) -> str:
    """The smallest and the largest sample, if there are several."""
    if len(figure.samples) == 1:
        return "once"
    return f"{number(min(figure.samples))} to {number(max(figure.samples))}"


def line(figure: Figure) -> str:
    """A figure as one line of text, for a terminal."""
    asked = "" if figure.bound is None else f"{wanted(figure.bound):>9}  {_mark(figure)}"
    value = f"{number(figure.value):>9} {figure.unit}"
    return f"    {figure.what:<52}{value:<25}{spread(figure):<18}{asked}".rstrip()


def notes(text: str) -> dict[str, str]:
    """The notes by row. A heading `## row` begins the notes of that row; "" is the text before the first."""
    parts = _NOTE.split(text)
    return {"": parts[0].strip()} | {
        name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }


def render(
    results: Sequence[Result],
    machine: dict[str, str],
    missing: Sequence[str],
    words: dict[str, str],
    plots: Sequence[str],
) -> str:
    """The report. `plots` are lines of Markdown, `words` the notes by row."""
    parts = [
        "# Performance",
        _INTRODUCTION,
        words.get("", ""),
        _summary(results),
        _misses(results),
        *plots,
        "## Row by row",
        *(_section(result, words.get(result.name, "")) for result in results if result.figures),
        "## The machine",
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        f"Not compared with, since not here: {', '.join(missing)}." if missing else "",
        "## Again",
        "```sh\npython -m bench                # everything, about three hours\n"
        "python -m bench wan page       # some rows\n"
        "python -m bench --quick        # once each, smaller; writes nothing\n"
        "python -m bench --report       # this file and the plots anew, from what was measured\n"
        "python -m bench.once wan       # one measurement on one link\n"
        "python -m bench.emulator wan   # a link to try things on by hand\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(results: Sequence[Result]) -> str:
    rows = [
        "| row | what | | measured | wanted | | spread |",
        "| --- | --- | --- | ---: | ---: | --- | --- |",
    ]
    for result in results:
        disturbed = ", disturbed" if result.others >= DISTURBED else ""
        for figure in result.figures:
            if figure.bound is not None:
                start = f"| `{result.name}` | {result.what} | {figure.what} | {_value(figure)} "
                rows.append(
                    f"{start}| {wanted(figure.bound)} | {_mark(figure)}{disturbed} | {spread(figure)} |"
                )
    return "\n".join(rows)


def _misses(results: Sequence[Result]) -> str:
    misses = [
        f"- `{result.name}`, {figure.what}: {_value(figure)} where {wanted(figure.bound)} is wanted, "
        f"{_distance(figure.value, figure.bound)}."
        for result in results
        for figure in result.figures
        if figure.bound is not None and not figure.reached
    ]
    return "\n".join(["Not reached:", "", *misses]) if misses else ""


def _distance(value: float, bound: Bound) -> str:
    if bound.at_most:
        return f"{number(100 * (value / bound.limit - 1))} % too much"
    return f"{number(100 * (1 - value / bound.limit))} % too little"


def _section(result: Result, words: str) -> str:
    parts = [
        f"### `{result.name}`: {result.what}",
        f"Link: {result.link}. Alone: `python -m bench {result.name}`. Measured {result.when} "
        f"({result.version}), {_times(result.repetitions)}.{_disturbance(result)}",
        "\n".join(_compared(result.figures) or _listed(result.figures)),
        words,
    ]
    return "\n\n".join(part for part in parts if part)


def _listed(figures: Sequence[Figure]) -> list[str]:
    """A table with a line for each figure."""
    rows = ["| | median | spread | wanted |", "| --- | ---: | --- | --- |"]
    for figure in figures:
        asked = "" if figure.bound is None else f"{wanted(figure.bound)}, {_mark(figure)}"
        rows.append(f"| {figure.what} | {_value(figure)} | {spread(figure)} | {asked} |")
    return rows


def _compared(figures: Sequence[Figure]) -> list[str]:
    """A table with a line for each program, if all figures are called "program, what". Else it is empty."""
    cells = {}
    for figure in figures:
        program, comma, what = figure.what.partition(", ")
        if not comma:
            return []
        cells[program, f"{what}, {figure.unit}"] = number(figure.value)
    programs = list(dict.fromkeys(program for program, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    if len(columns) * len(programs) != len(figures):
        return []
    return [
        f"| | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {name} | {' | '.join(cells[name, column] for column in columns)} |" for name in programs),
    ]


def _times(repetitions: int) -> str:
    return "once" if repetitions == 1 else f"{repetitions} times"


def _disturbance(result: Result) -> str:
    if result.others < DISTURBED:
        return ""
    return f" **Disturbed:** others used up to {number(result.others)} % of the machine meanwhile."


def _value(figure: Figure) -> str:
    return f"{number(figure.value)} {figure.unit}"


def _mark(figure: Figure) -> str:
    return "reached" if figure.reached else "not reached"
