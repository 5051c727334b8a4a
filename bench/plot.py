"""Plots as SVG, of lines or of dots. Pure: figures in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Series

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 70, 55
# Okabe and Ito: distinguishable for the colour-blind. The last two are for plots with more.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000"),
    *("#999999", "#8b5a2b"),
)
_LEGEND_WIDTH, _LEGEND_HEIGHT = 160, 18
_LETTER = 5.5  # width of a letter in the label of a dot

_Box = tuple[float, float, float, float]  # left, top, right, bottom
_STYLE = "font-family:sans-serif;font-size:13px;fill:#222"


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, and whether its scale is logarithmic."""

    title: str
    log: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot of one or more series, each in its own colour."""

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a scatter plot. Dots of one `group` have one colour; the `label` stands beside the dot."""

    group: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class _Scale:
    """Maps values to positions; `ticks` are the labelled values."""

    ticks: tuple[float, ...]
    log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high, where = (self._bend(v) for v in (self.ticks[0], self.ticks[-1], value))
        return self.start + (self.end - self.start) * (where - low) / (high - low)

    def _bend(self, value: float) -> float:
        return math.log10(value) if self.log else value


def ticks(highest: float) -> tuple[float, ...]:
    """Four to eleven round numbers, from 0 to `highest` or just above it."""
    if highest <= 0:
        return (0.0, 1.0)
    rough = highest / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in (1, 2, 5, 10) if size * magnitude >= rough * (1 - 1e-9))
    return tuple(step * number for number in range(math.ceil(highest / step - 1e-9) + 1))


def log_ticks(lowest: float, highest: float) -> tuple[float, ...]:
    """The numbers 1, 2, 5, 10 … that enclose the values. Raises `ValueError` for values of 0 or less."""
    if lowest <= 0:
        raise ValueError(f"expected values above 0 on a logarithmic axis, found {lowest}")
    first, last = math.floor(math.log10(lowest)) - 1, math.ceil(math.log10(highest)) + 1
    marks = [size * 10.0**power for power in range(first, last + 1) for size in (1, 2, 5)]
    below = max(index for index, mark in enumerate(marks) if mark <= lowest)
    above = next(index for index, mark in enumerate(marks) if mark >= highest and index > below)
    return tuple(marks[below : above + 1])


def render(plot: Plot, series: Sequence[Series]) -> str:
    """The plot as SVG. Raises `ValueError` without a point."""
    points = [point for line in series for point in line.points]
    if not points:
        raise ValueError(f"expected at least one point for {plot.title!r}, found none")
    x = _scale(plot.x, [point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _scale(plot.y, [point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    return _svg(plot, [*_grid(plot, x, y, _HEIGHT), *_lines(series, x, y)], _HEIGHT)


def scatter(plot: Plot, dots: Sequence[Dot]) -> str:
    """The plot of dots as SVG. Raises `ValueError` without one."""
    if not dots:
        raise ValueError(f"expected at least one point for {plot.title!r}, found none")
    groups = list(dict.fromkeys(dot.group for dot in dots))
    rows = math.ceil(len(groups) / _legends())
    top = _TOP + _LEGEND_HEIGHT * (rows - 1)
    height = _HEIGHT + top
    x = _scale(plot.x, [dot.x for dot in dots], _LEFT, _WIDTH - _RIGHT)
    y = _scale(plot.y, [dot.y for dot in dots], height - _BOTTOM, top)
    body = _grid(plot, x, y, height)
    for number, group in enumerate(groups):
        row, column = divmod(number, _legends())
        left, legend = _LEFT + _LEGEND_WIDTH * column, 40 + _LEGEND_HEIGHT * row
        body.append(_circle(left + 6, legend, number))
        body.append(_text(left + 16, legend + 5, group, "start"))
    places = [(x.at(dot.x), y.at(dot.y)) for dot in dots]
    taken = [(at_x - 5, at_y - 5, at_x + 5, at_y + 5) for at_x, at_y in places]
    for dot, (at_x, at_y) in zip(dots, places, strict=True):
        body.append(_circle(at_x, at_y, groups.index(dot.group)))
        body.append(_label(at_x, at_y, dot.label, taken))
    return _svg(plot, body, height)


def _legends() -> int:
    """How many names fit into a row."""
    return (_WIDTH - _LEFT - _RIGHT) // _LEGEND_WIDTH


def _circle(x: float, y: float, number: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_COLOURS[number % len(_COLOURS)]}"/>'


def _label(x: float, y: float, text: str, taken: list[_Box]) -> str:
    """The label of a dot, beside it where it covers nothing that is `taken`. It is then taken too."""
    width = _LETTER * len(text)
    places = [(x + 7, y - 5), (x - 7 - width, y - 5), (x - width / 2, y - 19), (x - width / 2, y + 10)]
    boxes = [(left, top, left + width, top + 10) for left, top in places]
    free = [box for box in boxes if box[2] < _WIDTH and not any(_cover(box, other) for other in taken)]
    box = next(iter(free), boxes[0] if x < _WIDTH - _RIGHT - 60 else boxes[1])
    taken.append(box)
    return f'<text x="{box[0]:.1f}" y="{box[3] - 2:.1f}" font-size="10" fill="#555">{escape(text)}</text>'


def _cover(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _svg(plot: Plot, body: Sequence[str], height: int) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" style="{_STYLE}">'
    return "\n".join([head, f"<title>{escape(plot.title)}</title>", *body, "</svg>", ""])


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> _Scale:
    marks = log_ticks(min(values), max(values)) if axis.log else ticks(max(values))
    return _Scale(marks, axis.log, start, end)


def _grid(plot: Plot, x: _Scale, y: _Scale, height: int) -> list[str]:
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (y.start + y.end) / 2
    grid = [
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_LEFT, 22, plot.title, "start", True),
    ]
    for tick in x.ticks:
        grid += [_line(x.at(tick), y.start, x.at(tick), y.end), _text(x.at(tick), y.start + 18, f"{tick:g}")]
    for tick in y.ticks:
        grid += [
            _line(x.start, y.at(tick), x.end, y.at(tick)),
            _text(x.start - 8, y.at(tick) + 4, f"{tick:g}", "end"),
        ]
    grid.append(_text(middle_x, height - 12, plot.x.title))
    grid.append(f'<g transform="translate(18 {middle_y:.1f}) rotate(-90)">{_text(0, 0, plot.y.title)}</g>')
    return grid


def _lines(series: Sequence[Series], x: _Scale, y: _Scale) -> list[str]:
    lines = []
    for number, line in enumerate(series):
        colour, legend = _COLOURS[number % len(_COLOURS)], _LEFT + _LEGEND_WIDTH * number
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in line.points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        lines.append(f'<rect x="{legend}" y="38" width="18" height="4" fill="{colour}"/>')
        lines.append(_text(legend + 24, 45, line.name, "start"))
    return lines


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
