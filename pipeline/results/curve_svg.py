"""Learning curves as SVG, by hand: the same points, the same bytes; colours follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean

from pipeline.results.curves import CurvePoint

WIDTH, HEIGHT = 720, 230
MOST_POINTS = 160  # more would not be seen at this width: neighbours are averaged
MOST_NATS = 700.0  # of which exp is a number
Series = Sequence[tuple[float, float]]

STYLE = """<style>
.curve { --ink: #3d4653; --faint: #dfe3e8; --train: #9aa5b4; --valid: #1f6feb;
  font: 11px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  .curve { --ink: #aab4c2; --faint: #2d3540; --train: #6b7788; --valid: #6cb2ff; } }
.curve text { fill: var(--ink); }
.curve .head { font-weight: 600; }
.curve .grid { stroke: var(--faint); stroke-width: 1; }
.curve path { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.curve .train { stroke: var(--train); } .curve .valid { stroke: var(--valid); }
.curve .dot { fill: var(--valid); } .curve .band { fill: var(--valid); opacity: .18; }
.curve .train-name { fill: var(--train); } .curve .valid-name { fill: var(--valid); }
</style>"""


@dataclass(frozen=True)
class Panel:
    """A rectangle of the picture with its axes: x in steps; y linear, or logarithmic where `log`."""

    left: float
    width: float
    last_step: float
    low: float
    high: float
    log: bool = False
    top: float = 34
    height: float = HEIGHT - 34 - 30

    def x(self, step: float) -> float:
        return self.left + self.width * step / max(self.last_step, 1)

    def y(self, value: float) -> float:
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log \
            else (self.low, self.high, value)
        return self.top + self.height * (high - value) / (high - low)


def curve_svg(points: Sequence[CurvePoint], title: str) -> str:
    """A picture of the training loss (left) and of training and validation accuracy, or perplexity (right).

    Args:
        points: in the order of their steps, at least one.
    """
    last_step = max(point.step for point in points)
    loss = [(p.step, p.loss) for p in points if p.loss is not None and p.loss > 0]
    of_text = any(point.valid_perplexity is not None for point in points)
    body = _loss_panel(averaged(loss), last_step)
    body += (_perplexity_panel if of_text else _accuracy_panel)(points, last_step)
    return "\n".join([
        f'<svg class="curve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">', STYLE, *body, "</svg>", ""])


def averaged(series: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> Series:
    """At most `most` points, each the mean of as many neighbours."""
    size = math.ceil(len(series) / most) or 1
    groups = [series[start:start + size] for start in range(0, len(series), size)]
    return [(mean(x for x, _ in group), mean(y for _, y in group)) for group in groups]


def _loss_panel(loss: Series, last_step: int) -> list[str]:
    if not loss:
        return []
    low, high = min(y for _, y in loss), max(y for _, y in loss)
    panel = Panel(44, 280, last_step, low / 1.1, high * 1.1, log=True)
    ticks = [digit * 10.0 ** power for power in range(-6, 7) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if panel.low < tick < panel.high]
    return [*_axes(panel, "Training loss, nats (log scale)", inside), _line(panel, loss, "train")]


def _accuracy_panel(points: Sequence[CurvePoint], last_step: int) -> list[str]:
    train = averaged([(p.step, p.accuracy) for p in points if p.accuracy is not None])
    valid = [(p.step, p.valid_accuracy, p.valid_ci95 or 0.0) for p in points if p.valid_accuracy is not None]
    if not train and not valid:
        return []
    floor = _floor([y - ci for _, y, ci in valid] or [y for _, y in train])
    train = [(x, y) for x, y in train if y >= floor]  # its first steps may lie below the picture
    panel = Panel(394, 300, last_step, floor, 100.0)
    spacing = 2 if floor >= 90 else 5 if floor >= 80 else 10 if floor >= 50 else 20
    ticks = [float(tick) for tick in range(100, int(floor) - 1, -spacing)]
    return [*_axes(panel, "Accuracy, %", ticks), *_legend(panel, bool(train), bool(valid)),
            _line(panel, train, "train"), *_validation(panel, valid)]


def _perplexity_panel(points: Sequence[CurvePoint], last_step: int) -> list[str]:
    """That of training is exp of its loss: of one step's words, dropout on."""
    valid = [(p.step, p.valid_perplexity) for p in points if p.valid_perplexity is not None]
    losses = averaged([(p.step, p.loss) for p in points if p.loss is not None])
    train = [(x, math.exp(min(y, MOST_NATS))) for x, y in losses]
    least = min(y for _, y in [*valid, *train])
    panel = Panel(394, 300, last_step, least / 1.1, 1.1 * max(y for _, y in valid), log=True)
    train = [(x, y) for x, y in train if y <= panel.high]  # its first steps may lie above the picture
    ticks = [digit * 10.0 ** power for power in range(7) for digit in (1, 1.2, 1.5, 2, 3, 5, 7)]
    dots = [f'<circle class="dot" cx="{panel.x(x):.1f}" cy="{panel.y(y):.1f}" r="2.4">'
            f"<title>step {x:,}: {y:.1f}</title></circle>" for x, y in valid]
    return [*_axes(panel, "Perplexity (log scale)", [tick for tick in ticks if panel.low < tick < panel.high]),
            *_legend(panel, bool(train), True, "● validation"),
            _line(panel, train, "train"), _line(panel, valid, "valid"), *dots]


def _floor(values: Sequence[float]) -> float:
    return max(0.0, math.floor((min(values) - 1e-9) / 10) * 10.0)


def _axes(panel: Panel, head: str, ticks: Sequence[float]) -> list[str]:
    right, bottom = panel.left + panel.width, panel.top + panel.height
    lines = [f'<text class="head" x="{panel.left}" y="16">{head}</text>']
    for tick in ticks:
        y = panel.y(tick)
        lines.append(f'<line class="grid" x1="{panel.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{panel.left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for step in step_ticks(panel.last_step):
        lines.append(f'<text x="{panel.x(step):.1f}" y="{bottom + 18}" text-anchor="middle">{step:,}</text>')
    return lines


def step_ticks(last_step: float) -> list[int]:
    """Three to six round numbers from 0 to the last step."""
    target = max(last_step, 1) / 4
    power = 10 ** math.floor(math.log10(target)) if target >= 1 else 1
    spacing = next(int(digit * power) for digit in (1, 2, 5, 10) if digit * power >= target)
    return list(range(0, int(last_step) + 1, spacing))


def _legend(panel: Panel, train: bool, valid: bool, valid_name: str = "● validation, 95%") -> list[str]:
    right = panel.left + panel.width
    names = [("valid-name", valid_name, right)] if valid else []
    names += [("train-name", "― training", right - 112 * valid)] if train else []
    return [f'<text class="{kind}" x="{x}" y="16" text-anchor="end">{name}</text>' for kind, name, x in names]


def _line(panel: Panel, series: Series, kind: str) -> str:
    path = "L".join(f"{panel.x(x):.1f} {panel.y(y):.1f}" for x, y in series)
    return f'<path class="{kind}" d="M{path}"/>' if path else ""


def _validation(panel: Panel, valid: Sequence[tuple[float, float, float]]) -> list[str]:
    if not valid:
        return []
    upper = [f"{panel.x(x):.1f},{panel.y(min(100.0, y + ci)):.1f}" for x, y, ci in valid]
    lower = [f"{panel.x(x):.1f},{panel.y(y - ci):.1f}" for x, y, ci in reversed(valid)]
    dots = [f'<circle class="dot" cx="{panel.x(x):.1f}" cy="{panel.y(y):.1f}" r="2.4">'
            f"<title>step {x:,}: {y:.1f} ± {ci:.1f} %</title></circle>" for x, y, ci in valid]
    return [f'<polygon class="band" points="{" ".join(upper + lower)}"/>',
            _line(panel, [(x, y) for x, y, _ in valid], "valid"), *dots]
