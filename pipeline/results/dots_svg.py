"""Ours against the paper's as a figure: one dot a row with its 95% interval, a diamond for the paper's figure."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.results.grids import STALE, Column, Grid, Line
from pipeline.results.short_title import short_title
from pipeline.results.svg import FAINT, INK, MUTED, OURS, PAPER, STYLE, WIDTH, figure_svg

LABEL = 0.36  # share of the width for the titles of the rows
LONGEST = 22  # characters of a title
LINE, ABOVE, BELOW = 0.25, 0.34, 0.3  # inches for a row, the heading and the axis


def dots_svg(grid: Grid, column: Column, name: str) -> str:
    """The rows of a grid in one column; those without a figure of ours there are left out.

    Args:
        name: see `figure_svg`.
    """
    position = grid.columns.index(column)
    lines = [line for line in grid.lines if line.row.details and column.name in line.row.details.columns]
    height = ABOVE + LINE * len(lines) + BELOW
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((LABEL, BELOW / height, 0.97 - LABEL, LINE * len(lines) / height))
        figure.text(0.01, 1 - 0.12 / height, f"{column.title}, %", va="top", weight="bold", size=10.5,
                    parse_math=False)
        low, high = _limits(lines, column.name)
        axes.set(xlim=(low, high), ylim=(len(lines) - 0.5, -0.5), yticks=[])
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="x", linewidth=0.7)
        axes.set_axisbelow(True)
        for y, line in enumerate(lines):
            _row(axes, y, line, column.name)
    return figure_svg(figure, name, _words(column, lines, position))


def _limits(lines: Sequence[Line], column: str) -> tuple[float, float]:
    values = [value for line in lines for value in _values(line, column)]
    margin = max(0.06 * (max(values) - min(values)), 0.5)
    return min(values) - margin, max(values) + margin


def _values(line: Line, column: str) -> list[float]:
    assert line.row.details
    result = line.row.details.columns[column]
    paper = line.row.info.paper.get(column)
    return [result.accuracy - result.ci95, result.accuracy + result.ci95, *([] if paper is None else [paper])]


def _row(axes: Axes, y: int, line: Line, column: str) -> None:
    assert line.row.details
    result, paper = line.row.details.columns[column], line.row.info.paper.get(column)
    label = short_title(line.title, LONGEST) + STALE * bool(line.row.stale)
    axes.text(-0.02, y, label, transform=axes.get_yaxis_transform(), ha="right", va="center", color=INK,
              parse_math=False)
    axes.axhline(y, color=FAINT, linewidth=0.7, zorder=0.5)
    if paper is not None:
        axes.plot([paper, result.accuracy], [y, y], color=MUTED, linewidth=1.2, zorder=1)
        axes.plot([paper], [y], "D", color=PAPER, markerfacecolor="none", markersize=5.5, markeredgewidth=1.6, zorder=2)
    axes.errorbar([result.accuracy], [y], xerr=[result.ci95], fmt="o", color=OURS, markersize=5.5, elinewidth=1.6,
                  capsize=3, zorder=3)


def _words(column: Column, lines: Sequence[Line], position: int) -> str:
    """Text for a screen reader: the same figures as in the table."""
    rows = [f"{line.title}: {cell.ours}" + (f", the paper {cell.paper}" if cell.paper else "")
            for line in lines for cell in [line.cells[position]]]
    return f"Dot plot of accuracies in percent, {column.title}. {'; '.join(rows)}."
