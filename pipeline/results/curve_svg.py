"""Learning curves as SVG: the loss of training above, accuracy or perplexity below."""

import math
from collections.abc import Callable, Sequence
from statistics import mean

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from pipeline.results.curves import CurvePoint
from pipeline.results.svg import MUTED, OURS, STYLE, WIDTH, figure_svg

MOST_POINTS = 160  # more would not be seen at this width: neighbours are averaged
MOST_NATS = 700.0  # exp of more may overflow float64
HEIGHT = 1.55  # inches of a panel
Series = Sequence[tuple[float, float]]


def curve_svg(points: Sequence[CurvePoint], name: str, title: str) -> str | None:
    """A picture of the training loss, and of training and validation accuracy, or perplexity; None without either.

    Args:
        points: in the order of their steps.
        name: see `figure_svg`.
    """
    of_text = any(point.valid_perplexity is not None for point in points)
    panels: list[Callable[[Axes, Sequence[CurvePoint]], None]] = []
    panels += [_loss] if _losses(points) else []
    if of_text:
        panels.append(_perplexity)
    elif any(point.accuracy is not None or point.valid_accuracy is not None for point in points):
        panels.append(_accuracy)
    if not panels:
        return None
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH, HEIGHT * len(panels) + 0.15))
        many = len(panels)
        for number, draw in enumerate(panels):
            axes = figure.add_subplot(many, 1, number + 1)
            draw(axes, points)
            axes.set_xlim(0, max(points[-1].step, 1))
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
            axes.grid(axis="y", linewidth=0.7)
            axes.set_axisbelow(True)
        figure.subplots_adjust(left=0.1, right=0.96, top=1 - 0.25 / (HEIGHT * many), bottom=0.25 / (HEIGHT * many),
                               hspace=0.55)
    return figure_svg(figure, name, f"{title}. {_words(points)}")


def averaged(series: Series, most: int = MOST_POINTS) -> Series:
    """At most `most` points, each the mean of as many neighbours."""
    size = math.ceil(len(series) / most) or 1
    groups = [series[start:start + size] for start in range(0, len(series), size)]
    return [(mean(x for x, _ in group), mean(y for _, y in group)) for group in groups]


def _losses(points: Sequence[CurvePoint]) -> Series:
    """The losses that a logarithmic axis can show."""
    return averaged([(p.step, p.loss) for p in points if p.loss is not None and p.loss > 0])


def _loss(axes: Axes, points: Sequence[CurvePoint]) -> None:
    _line(axes, _losses(points), MUTED)
    axes.set_title("Training loss, nats (log scale)")
    _logarithmic(axes)


def _accuracy(axes: Axes, points: Sequence[CurvePoint]) -> None:
    _line(axes, averaged([(p.step, p.accuracy) for p in points if p.accuracy is not None]), MUTED)
    valid = [(p.step, p.valid_accuracy, p.valid_ci95 or 0.0) for p in points if p.valid_accuracy is not None]
    if valid:
        steps, means, intervals = zip(*valid, strict=True)
        axes.errorbar(steps, means, yerr=intervals, fmt="o-", color=OURS, markersize=3.5, linewidth=1.6, capsize=2)
        lowest = min(y - ci for _, y, ci in valid)
        highest = max([y + ci for _, y, ci in valid] + [p.accuracy for p in points if p.accuracy is not None])
        axes.set_ylim(max(0.0, math.floor((lowest - 1e-9) / 10) * 10.0),  # training's first steps may lie below
                      min(100.0, math.ceil((highest + 1e-9) / 10) * 10.0))
    axes.set_title("Accuracy, %")


def _perplexity(axes: Axes, points: Sequence[CurvePoint]) -> None:
    """Perplexity of training is exp of its loss, over the words of one step with dropout."""
    valid = [(p.step, p.valid_perplexity) for p in points if p.valid_perplexity is not None]
    losses = averaged([(p.step, p.loss) for p in points if p.loss is not None])
    train = [(x, math.exp(min(y, MOST_NATS))) for x, y in losses]
    _line(axes, train, MUTED)
    axes.plot(*zip(*valid, strict=True), "o-", color=OURS, markersize=3.5, linewidth=1.6)
    least = min(y for _, y in [*valid, *train])
    axes.set_ylim(least / 1.1, 1.1 * max(y for _, y in valid))  # training's first steps may lie above
    axes.set_title("Perplexity (log scale)")
    _logarithmic(axes)


def _line(axes: Axes, series: Series, colour: str) -> None:
    if series:
        axes.plot(*zip(*series, strict=True), "-" if len(series) > 1 else "o", color=colour, linewidth=1.4,
                  markersize=3.5)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, 2 to 7 of them: 0.2, 0.5, 1, 2, ..."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [digit * 10.0 ** power for power in powers for digit in digits if low <= digit * 10.0 ** power <= high]
        if 2 <= len(ticks) <= 7:
            return ticks
    if len(ticks) < 2:
        return [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    return ticks[::math.ceil(len(ticks) / 7)]


def _words(points: Sequence[CurvePoint]) -> str:
    """Text for a screen reader: the values at the end."""
    last = points[-1].step
    for what, unit in (("valid_perplexity", ""), ("valid_accuracy", "%")):
        values = [getattr(point, what) for point in points if getattr(point, what) is not None]
        if values:
            return (f"{last:,} steps; {what.removeprefix('valid_')} in validation from {values[0]:.1f}{unit} to "
                    f"{values[-1]:.1f}{unit}")
    return f"{last:,} steps, without validation"
