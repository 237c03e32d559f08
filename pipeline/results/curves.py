"""Learning curves: `results/curves/TABLE/MODEL.csv`, one line per step that was logged or validated."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from matchnet.files import atomic_write
from matchnet.messages import said, shown
from pipeline import paths

FRACTIONS = ("accuracy", "valid_accuracy", "valid_ci95")


@dataclass(frozen=True)
class CurvePoint:
    """Values logged at one step; None for a value that was not logged. Accuracies in percent, the loss in nats.

    valid_perplexity: a language model's; curves of other models have no such column.
    """

    step: int
    loss: float | None = None
    accuracy: float | None = None
    learning_rate: float | None = None
    valid_accuracy: float | None = None
    valid_ci95: float | None = None
    episodes_per_second: float | None = None
    valid_perplexity: float | None = None


FIELDS = tuple(field.name for field in fields(CurvePoint))
OF_EPISODES = tuple(name for name in FIELDS if name != "valid_perplexity")


def curve_from_records(records: Iterable[Mapping[str, float]]) -> list[CurvePoint]:
    """Merge what training logged and reported, one point a step.

    Steps after the last checkpoint run again when a run resumes. If a step has two records, the later one holds.

    Args:
        records: each with a `step` and any of the fields of CurvePoint; accuracies are fractions here. Other
            keys are left out.
    """
    values: dict[int, dict[str, float]] = {}
    for record in records:
        known = {name: 100 * value if name in FRACTIONS else value
                 for name, value in record.items() if name in FIELDS and value is not None}
        values.setdefault(int(record["step"]), {}).update(known)
    return [CurvePoint(**{**values[step], "step": step}) for step in sorted(values)]  # type: ignore[arg-type]


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write the CSV, whole or not at all; six significant digits."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        names = FIELDS if any(point.valid_perplexity is not None for point in points) else OF_EPISODES
        writer.writerow(names)
        for point in points:
            rest = (getattr(point, name) for name in names[1:])
            writer.writerow([point.step, *("" if value is None else f"{value:.6g}" for value in rest)])


def copy_training_files(model: str) -> None:
    """Copy a model's curve and speed to results, where git keeps them; what DVC took from its run cache has no copy."""
    for origin, target in paths.training_files(model).items():
        if origin.exists():
            with atomic_write(target, "wb") as file:
                file.write(origin.read_bytes())


def read_curve(path: Path) -> list[CurvePoint]:
    """Read what `write_curve` wrote.

    Raises:
        ValueError: another header, a cell that is no possible number, or steps that do not rise; names file, line and
            column.
    """
    again = f"make it again with the stage train@{path.stem} of {path.parent.name}"
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no table of text ({said(error)}); {again}") from error
    names = tuple(rows[0][1]) if rows else ()
    if names not in (FIELDS, OF_EPISODES):
        raise ValueError(f"{path}: columns are {shown(list(names))}, expected {list(OF_EPISODES)}; {again}")
    points: list[CurvePoint] = []
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise ValueError(f"{path}, line {line}: {len(row)} cells, and the head has {len(names)}; {again}")
        values = {name: _number(name, cell, f"{path}, line {line}, column {name}", again)
                  for name, cell in zip(names, row, strict=True)}
        step = values.pop("step")
        if step is None or not step.is_integer() or (points and step <= points[-1].step):
            raise ValueError(f"{path}, line {line}, column step: {shown(row[0])} is no whole number above the one "
                             f"before it; {again}")
        points.append(CurvePoint(step=int(step), **values))
    return points


def _number(name: str, cell: str, where: str, again: str) -> float | None:
    """The number in a cell; None for an empty cell."""
    try:
        value = float(cell) if cell else None
    except ValueError as error:
        raise ValueError(f"{where}: {shown(cell)} is not a number; {again}") from error
    most = 100.0 if name in FRACTIONS else sys.float_info.max
    least = {"loss": -most, "valid_perplexity": 1.0}.get(name, 0.0)
    if value is not None and not least <= value <= most:
        raise ValueError(f"{where}: {shown(cell)} cannot be; {again}")
    return value
